"""``python -m claude_proxy``: see ``cli.py``."""

from claude_proxy.cli.main import main

if __name__ == "__main__":
    main()
