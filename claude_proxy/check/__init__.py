"""``claude-proxy check``: what is wrong with ``.env``, ``config.yaml`` and the environment, found before a client finds it.

``facts.py`` reads everything once; each other file holds checks of one kind, plain functions from the facts to findings;
``table.py`` lists them; ``report.py`` prints what they found. Only ``hosts.py`` and ``live.py`` reach for the network.
"""
