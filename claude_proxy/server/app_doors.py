"""The groups of routes beside the Messages API, made of the parts of one process."""

from claude_proxy.server.application import App
from claude_proxy.server.doors import Door
from claude_proxy.server.model_requests import ModelRequests


def anthropic_door(app: App, requests: ModelRequests) -> Door:
    """Return the rest of Anthropic's API: one model, batches and files."""
    return app.anthropic.door(
        requests,
        client=app.client,
        redactor=app.redactor,
        store=app.sign_in.store,
        admission=app.admission,
        prices=app.prices,
        models=app.client_models,
        record=app.record,
        ready=app.load_shared_state,
    )
