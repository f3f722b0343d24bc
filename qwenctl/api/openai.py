"""OpenAI's door: all routes under `/v1`, and here the models. Source: OpenAI API reference."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwenctl.api import openai_chat, openai_completions, openai_embeddings, openai_responses, rerank
from qwenctl.api.exchange import answering, json_response
from qwenctl.api.host import ModelHost, ServedModel
from qwenctl.api.openai_errors import refusal

__all__ = ["ModelList", "ModelObject", "refusal", "routes"]


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can be asked for."""

    id: str
    created: int
    object: str = "model"
    owned_by: str = "qwenctl"


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """All of them."""

    data: tuple[ModelObject, ...]
    object: str = "list"


def routes(host: ModelHost) -> list[Route]:
    """The routes of this door; mounted at several addresses they share what they remember."""

    @answering(refusal)
    async def models(_: Request) -> Response:
        return json_response(ModelList(data=tuple(map(_model_object, await host.models()))))

    @answering(refusal)
    async def model(request: Request) -> Response:
        return json_response(_model_object(await host.find(request.path_params["name"])))

    return [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{name:path}", model, methods=["GET"]),
        *openai_chat.routes(host),
        *openai_completions.routes(host),
        *openai_responses.routes(host),
        *openai_embeddings.routes(host),
        *rerank.routes(host),
    ]


def _model_object(model: ServedModel) -> ModelObject:
    return ModelObject(id=model.name, created=model.created_seconds)
