"""Ten projects that are right and as different as users make them: `claude-proxy check` has no error and no warning for any."""

from planted_mistakes import API_KEY, CONFIG, DOTENV, MASTER, OAUTH, OTHER_OAUTH, SETTINGS, STATIC

END = """\
litellm_settings:
  callbacks: [request_transformer.proxy_handler_instance]
  drop_params: true
  use_chat_completions_url_for_anthropic_messages: true
general_settings:
  custom_auth: custom_auth.user_api_key_auth
  master_key: os.environ/LITELLM_MASTER_KEY
"""
CLAUDE = """\
model_list:
  - model_name: claude-*
    litellm_params: {model: anthropic/claude-*}
"""
TOKENS = f"PROXY_STATIC_TOKEN={STATIC}\nLITELLM_MASTER_KEY={MASTER}\n"
POOL = f"CLAUDE_OAUTH_TOKENS=anna={OAUTH},ben@2026-03-01={OTHER_OAUTH}\n"
# Claude Code's own names on another provider's models.
ALIASES = """\
  model_group_alias:
    claude-opus-5-5: big
    claude-sonnet-5-5: big
    claude-haiku-5-5: small
    claude-fable-5-2: big
"""

MANY = f"""\
model_list:
  - model_name: anthropic/*
    litellm_params: {{model: anthropic/*}}
  - model_name: claude-*
    litellm_params: {{model: anthropic/claude-*}}
  - model_name: glm
    litellm_params: {{model: anthropic/glm-5.3, api_base: "https://api.z.ai/api/anthropic", api_key: os.environ/ZAI_API_KEY}}
  - model_name: kimi
    litellm_params: {{model: anthropic/kimi, api_base: "https://api.kimi.com/coding", api_key: os.environ/KIMI_API_KEY}}
  - model_name: gpt
    litellm_params: {{model: openai/gpt-5.2, api_key: os.environ/OPENAI_API_KEY, reasoning_effort: high}}
  - model_name: groq
    litellm_params: {{model: groq/openai/gpt-oss-120b, api_key: os.environ/GROQ_API_KEY}}
  - model_name: gemini
    litellm_params: {{model: gemini/gemini-3.1-pro, api_key: os.environ/GEMINI_API_KEY}}
  - model_name: openrouter
    litellm_params:
      model: anthropic/qwen/qwen3.6-plus:free
      api_base: https://openrouter.ai/api
      api_key: os.environ/OPENROUTER_API_KEY
  - model_name: azure
    litellm_params:
      model: azure/my-deployment
      api_base: os.environ/AZURE_API_BASE
      api_key: os.environ/AZURE_API_KEY
      api_version: "2025-04-01-preview"
  - model_name: hf
    litellm_params: {{model: huggingface/zai-org/GLM-5, api_key: os.environ/HF_TOKEN}}
router_settings:
  fallbacks:
    - claude-haiku-*: [glm]
    - claude-*: [kimi, glm]
    - "anthropic/*": [glm]
  context_window_fallbacks:
    - glm: [gemini]
  default_fallbacks: [openrouter]
  retry_policy: {{RateLimitErrorRetries: 0, TimeoutErrorRetries: 1}}
{END}"""

BEDROCK = f"""\
model_list:
  - model_name: claude-opus-5-5
    litellm_params: &aws
      model: bedrock/us.anthropic.claude-opus-5-5-v1:0
      aws_access_key_id: os.environ/AWS_ACCESS_KEY_ID
      aws_secret_access_key: os.environ/AWS_SECRET_ACCESS_KEY
      aws_region_name: os.environ/AWS_REGION
  - model_name: claude-sonnet-5-5
    litellm_params: {{<<: *aws, model: "bedrock/us.anthropic.claude-sonnet-5-5-v1:0"}}
  - model_name: claude-haiku-5-5
    litellm_params: {{<<: *aws, model: "bedrock/us.anthropic.claude-haiku-5-5-v1:0"}}
  - model_name: claude-fable-5-2
    litellm_params: {{<<: *aws, model: "bedrock/us.anthropic.claude-fable-5-2-v1:0"}}
{END}"""

VERTEX = f"""\
model_list:
  - model_name: claude-*
    litellm_params:
      model: vertex_ai/claude-*
      vertex_project: os.environ/VERTEX_PROJECT
      vertex_location: global
      vertex_credentials: os.environ/VERTEX_CREDENTIALS
{END}"""

OWN_SERVER = f"""\
model_list:
  - model_name: big
    litellm_params: {{model: openai/qwen3-coder, api_base: "http://vllm.internal:8000/v1", api_key: none}}
    model_info: {{chat_server: vllm}}
  - model_name: small
    litellm_params: {{model: ollama_chat/qwen3, api_base: "http://host.docker.internal:11434"}}
router_settings:
  num_retries: 1
{ALIASES}{END}"""

TEAM = f"""\
{CLAUDE}\
  - model_name: glm
    litellm_params: {{model: anthropic/glm-5.3, api_base: "https://api.z.ai/api/anthropic", api_key: os.environ/ZAI_API_KEY}}
    model_info: {{access_groups: [cheap]}}
  - model_name: gpt
    litellm_params: {{model: openai/gpt-5.2, api_key: os.environ/OPENAI_API_KEY}}
router_settings:
  fallbacks: [{{"claude-*": [glm]}}]
claude_proxy:
  users:
    anna:
      models: [cheap, "claude-*"]
      groups: [team-a]
      budget: {{day: 10, week: 40, month: 120}}
      requests_per_minute: 60
      streams: 4
    Ben: {{groups: [team-b]}}
    static: {{models: [glm]}}
  groups:
    team-a: {{budget: {{month: 500, soft: true}}, credentials: [anna]}}
    team-c: {{budget: {{week: "99.50"}}}}
  default_budget: {{day: 20}}
  budget: {{month: 2000, timezone: Europe/Berlin}}
  budget_without_store: refuse
  unpriced_models: refuse
  prices:
    claude-fable-5-2: {{input: 10, output: 50, cache_read: 0.25}}
    glm: {{input: 0.6, output: 2.2, cache_read: 0.11, long_context: {{above: 200000, input: 1.2, output: 4.4}}}}
  models:
    claude-opus-*: {{groups: [team-b]}}
  rules:
    - {{name: titles, when: {{request: [auxiliary, side_reply], pool_above: {{week: 80}}}}, model: glm}}
    - {{when: {{user: anna, time: "22:00-06:00", days: [sat, sun], timezone: Europe/Berlin, images: false}}, model: glm}}
    - {{when: {{tokens_above: 150000, model: "claude-*"}}, model: glm}}
  telemetry: {{collector: "http://otel-collector:4318", headers: {{x-team: made-up}}, own: true}}
  fetch_hosts: [images.example.org]
  web_search: {{provider: brave, api_key: os.environ/BRAVE_API_KEY, max_results: 5}}
  managed_settings:
    all:
      cleanupPeriodDays: 30
      permissions: {{deny: ["Read(.env)"], defaultMode: plan}}
      env: {{API_TIMEOUT_MS: 3000000, CLAUDE_CODE_ATTRIBUTION_HEADER: true}}
      modelPicker: {{options: [{{model: glm, label: GLM, behavesAs: claude-sonnet-4-6}}]}}
    groups:
      team-b: {{model: opus, availableModels: null}}
    users:
      Anna: {{effortLevel: high, feedbackSurveyRate: 0.1}}
{END}"""

CREDENTIALS = f"""\
# The pool.
credentials:
  - label: anna
    secret: {OAUTH}
    made: 2026-03-01
    owner: anna
    reserve: 0.2
  - label: ci
    secret_file: keys/ci
    kind: api_key
    priority: -1
    groups: [team-b]
"""

# Two keys of one model, and the pool's state in a Redis.
SPREAD = f"""\
{CLAUDE}\
  - model_name: gpt
    litellm_params: {{model: openai/gpt-5.2, api_key: os.environ/OPENAI_API_KEY, weight: 2}}
  - model_name: gpt
    litellm_params: {{model: azure/my-deployment, api_base: "https://made.openai.azure.com", api_key: os.environ/AZURE_API_KEY}}
router_settings:
  routing_strategy: simple-shuffle
  redis_host: os.environ/REDIS_HOST
{END}"""

PROJECTS = {
    "the shipped example": {"config.yaml": None, ".env": TOKENS + POOL},
    "one pool": {"config.yaml": CLAUDE + END, ".env": TOKENS + POOL},
    "many providers": {
        "config.yaml": MANY,
        ".env": TOKENS
        + POOL
        + "ZAI_API_KEY=0123456789abcdef.made-up\nKIMI_API_KEY=sk-kimi-made-up-0123\nOPENAI_API_KEY='sk-proj-made-up-0$123'\n"
        + "GROQ_API_KEY=gsk_made-up-0123\nGEMINI_API_KEY=AIzamade-up-0123\nOPENROUTER_API_KEY=sk-or-v1-made-up-0123\n"
        + "AZURE_API_BASE=https://made.openai.azure.com\nAZURE_API_KEY=made-up-0123456789 # the second one\n"
        + "HF_TOKEN=hf_made-up-0123\n",
    },
    "Bedrock": {
        "config.yaml": BEDROCK,
        ".env": TOKENS + "AWS_ACCESS_KEY_ID=AKIAMADEUP\nAWS_SECRET_ACCESS_KEY=made-up/0123+456=\nAWS_REGION=us-east-1\n",
    },
    "Vertex AI": {
        "config.yaml": VERTEX,
        ".env": TOKENS + "VERTEX_PROJECT=made-up\nVERTEX_CREDENTIALS=/run/secrets/vertex.json\n",
    },
    "servers of one's own": {"config.yaml": OWN_SERVER, ".env": TOKENS},
    "a team with limits": {
        "config.yaml": TEAM,
        ".env": TOKENS + "ZAI_API_KEY=made-up-0123456789\nBRAVE_API_KEY=BSAmade-up-0123\nOPENAI_API_KEY=sk-proj-made-up-0123\n",
        ".state/users": "# since spring\nanna=made-up-token-of-anna\nben=sha256:" + "0a" * 32 + "\n",
        "credentials.yaml": CREDENTIALS,
        "keys/ci": f"{API_KEY}\n",
    },
    "several replicas in Docker": {
        "config.yaml": SPREAD,
        ".env": TOKENS
        + POOL
        + "OPENAI_API_KEY=made-up-openai-0123\nAZURE_API_KEY=made-up-azure-0123\n"
        + "REDIS_HOST=redis\nNUM_WORKERS=2\nSCALE_PORT=4080\n"
        + "PROXY_DOMAIN=proxy.example.org\nPROXY_BIND=127.0.0.1\nCOMPOSE_PROFILES=tls,scale\n",
    },
    "files that Windows edited": {
        "config.yaml": ("\ufeff" + CONFIG).replace("\n", "\r\n"),
        ".env": ("\ufeff" + DOTENV).replace("\n", "\r\n"),
    },
    "the client's own login": {
        "config.yaml": CLAUDE + END,
        ".env": TOKENS + "CLAUDE_TOKEN_MODE=passthrough\nPROXY_LOG_FORMAT=json\n",
        "settings.json": '{\n  "env": {\n    "ANTHROPIC_BASE_URL": "http://127.0.0.1:4000",\n'
        f'    "ANTHROPIC_CUSTOM_HEADERS": "x-litellm-api-key: {STATIC}\\nx-claude-token-mode: passthrough",\n'
        '    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"\n  },\n'
        '  "permissions": {"allow": ["Bash(ls:*)"]}\n}\n',
    },
    "a client of a user": {
        "config.yaml": CONFIG,
        ".env": DOTENV + "PROXY_USER_TOKENS=anna=made-up-token-of-anna\n",
        "settings.json": SETTINGS.replace(STATIC, "made-up-token-of-anna"),
    },
}
