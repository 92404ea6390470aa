"""``claude-proxy check``: finds errors in .env, config.yaml, a client's settings.json and the environment.

``facts.py`` reads everything once; each other file holds checks of one kind, plain functions from the facts to findings;
``table.py`` lists them; ``report.py`` prints the findings. Only ``hosts.py``, ``live.py`` and ``client_requests.py`` use the
network.
"""
