"""The groups of routes beside the Messages API, made of the parts of one process."""

from collections.abc import Mapping

from claude_proxy.proxy.lanes.cloud_lane import CloudLane
from claude_proxy.server.application import App
from claude_proxy.server.cloud_door import CloudDoor
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


def cloud_door(app: App, environ: Mapping[str, str], requests: ModelRequests) -> Door:
    """Return the routes of clients of Bedrock and Vertex AI; ``environ`` may have the credentials of these clouds."""
    lane, lacks_price = CloudLane(app.client, app.config, environ), app.admission.lacks_price
    return CloudDoor(requests, lane, app.config, app.redactor, lacks_price=lacks_price, ready=app.load_shared_state)
