"""The parameters of a screenshot-to-code client, brought to the form of chat completions.

Keys of providers that the client sends are not looked at: whom the gateway asks is its operator's matter.

Source: the client of abi/screenshot-to-code (``generateCode.ts``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import BadRequest

__all__ = ["code_body"]

_MOST_IMAGES = 16
_MOST_TURNS = 64
_STACK_LENGTH = 64
_ASK = (
    "You write one complete, self-contained file of web code in the stack {stack}. Rebuild what the screenshot shows "
    "as exactly as you can, texts and colours included, or what the words ask for. Answer with the code alone."
)


def code_body(params: Mapping[str, Any], variant: int, *, own: bool) -> dict[str, Any]:
    """Return the body of chat completions for one variant; ``own`` adds the parameters by name, for own services.

    Raises :exc:`~app.errors.BadRequest`.
    """
    stack = params.get("generatedCodeConfig") or "html_tailwind"
    if not isinstance(stack, str) or not stack.replace("_", "").isalnum() or len(stack) > _STACK_LENGTH:
        raise BadRequest("generatedCodeConfig must name a stack.")
    kind = params.get("generationType") or "create"
    if kind not in ("create", "update"):
        raise BadRequest("generationType must be create or update.")
    turns = _turns(params)
    messages = [{"role": "system", "content": _ASK.format(stack=stack)}, *turns]
    if not own:
        return {"messages": messages}
    images = [part["image_url"]["url"] for turn in turns for part in turn["content"] if part["type"] == "image_url"]
    named = {"code_stack": stack, "generation_type": kind, "variant": variant}
    for turn in turns:  # A screenshot may be megabytes: once is enough.
        turn["content"] = [
            part for part in turn["content"] if part["type"] != "image_url" or part["image_url"]["url"] != images[-1]
        ]
    asked = {"image": images[-1] if images else None, "prompt": _words(params), "base_code": _file(params)}
    return {"messages": messages, **named, **{name: value for name, value in asked.items() if value}}


def _words(params: Mapping[str, Any]) -> str:
    """What is asked now, in words. The turns were found to be right before."""
    prompt = params.get("prompt")
    return str(prompt.get("text") or "") if isinstance(prompt, dict) else ""


def _file(params: Mapping[str, Any]) -> str:
    """The file that is to be changed."""
    state = params.get("fileState")
    content = state.get("content") if isinstance(state, dict) else None
    return content if isinstance(content, str) else ""


def _turns(params: Mapping[str, Any]) -> list[dict[str, Any]]:
    history = params.get("history") or []
    if not isinstance(history, list) or len(history) > _MOST_TURNS:
        raise BadRequest(f"history must be a list of at most {_MOST_TURNS} turns.")
    turns = [_turn(turn, f"history[{index}]") for index, turn in enumerate(history)]
    prompt = params.get("prompt")
    turns = [turn for turn in turns if turn["content"]]
    last = _turn({"role": "user", **prompt} if isinstance(prompt, dict) else {}, "prompt")
    if file := _file(params):
        last["content"].insert(0, {"type": "text", "text": "The file as it is:\n\n" + file})
    selected = prompt.get("selectedElementHtml") if isinstance(prompt, dict) else None
    if isinstance(selected, str) and selected:
        last["content"].append({"type": "text", "text": "This element is meant:\n\n" + selected})
    if last["content"] and not (turns and turns[-1] == last):  # Some versions repeat the prompt in the history.
        turns.append(last)
    if not turns:
        raise BadRequest("prompt: send an image or a text.")
    return turns


def _turn(turn: Any, where: str) -> dict[str, Any]:
    if not isinstance(turn, dict):
        raise BadRequest(f"{where} must be an object.")
    text, images = turn.get("text") or "", turn.get("images") or []
    if not isinstance(text, str) or not isinstance(images, list) or len(images) > _MOST_IMAGES:
        raise BadRequest(f"{where} must hold text, a text, and images, at most {_MOST_IMAGES}.")
    content: list[dict[str, Any]] = []
    for image in images:
        if not isinstance(image, str) or not image.startswith(("data:image/", "https://", "http://")):
            raise BadRequest(f"{where}.images must be addresses or data: of images.")
        content.append({"type": "image_url", "image_url": {"url": image}})
    if text:
        content.append({"type": "text", "text": text})
    return {"role": "assistant" if turn.get("role") == "assistant" else "user", "content": content}
