"""The callback that config.yaml names. It only creates the instance; the code is in the package ``claude_proxy``."""

import sys
from pathlib import Path

# LiteLLM runs this file by its path and does not add its folder to the import path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from claude_proxy.litellm.bootstrap import start

proxy_handler_instance = start()
