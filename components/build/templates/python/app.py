"""Judges messages by a list of banned words.

The input is `{"message": "…"}`, the parameter `banned` lists words, and the output is `{"verdict":"block","count":2}`:
`allow` if none of the message's words is banned, and how many are.
"""

import json
import re

import wit_world
from componentize_py_types import Err
from wit_world.imports import log, parameters

# What is done here is done once, when the component is built: compiling this takes a thousand times the fuel of using it.
BETWEEN_WORDS = re.compile(r"[^a-z0-9\u0080-\U0010ffff]+")


class WitWorld(wit_world.WitWorld):
    """What the host calls, by the name that the contract's bindings ask for."""

    def run(self, input: bytes) -> bytes:
        """Judges one message. Every operator does, so equal inputs must give equal bytes: `random` gives the same numbers
        in each run, and there are no files, no clock and no standard output. `log` writes to the operator's log.

        An `Err` is the service's answer to an input that it can't work on, and is certified as an output would be. Any
        other exception ends the run as a failure, and its message is lost.
        """
        message = parse(input)
        if message == "":
            raise Err("the message is empty")
        banned = set(words(parameters.get("banned") or ""))
        if not banned:
            log.log(log.Level.WARN, "the parameter `banned` lists no words, so all messages are allowed")
        count = sum(word in banned for word in words(message))
        verdict = "allow" if count == 0 else "block"
        return json.dumps({"verdict": verdict, "count": count}, separators=(",", ":")).encode()


def parse(input: bytes) -> str:
    try:
        value = json.loads(input)
    except ValueError as error:
        raise Err(f"the input isn't JSON of the expected form: {error}") from None
    message = value.get("message") if isinstance(value, dict) else None
    if not isinstance(message, str):
        raise Err("the input isn't JSON of the expected form: `message` isn't a text")
    return message


def words(text: str) -> list[str]:
    """What stands between blanks and signs. Letters of all alphabets are part of words."""
    return [word for word in BETWEEN_WORDS.split(text.lower()) if word]
