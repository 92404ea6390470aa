"""``python -m claude_proxy``: see ``cli/main.py``."""

from claude_proxy.cli.main import main

if __name__ == "__main__":
    main()
