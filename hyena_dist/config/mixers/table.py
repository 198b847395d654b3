"""The mixers that exist. A new one is a record, a module, and its record's name in the list below."""

from hyena_dist.config.mixers.attention import ATTENTION
from hyena_dist.config.mixers.hyena import HYENA
from hyena_dist.config.mixers.record import Mixer
from hyena_dist.errors import UserError

MIXERS: dict[str, Mixer] = {record.letter: record for record in (HYENA, ATTENTION)}
"""Letters of ModelConfig.layer_pattern -> the mixers' records."""

DEFAULT = HYENA.letter
"""The mixer of every layer of a model without a layer_pattern."""


def mixer(letter: str) -> Mixer:
    """Return the record of the mixer that has a letter.

    Raises:
        UserError: no mixer has the letter; the sentence names those that exist.
    """
    if letter not in MIXERS:
        known = ", ".join(f"{record.letter} ({record.name})" for record in MIXERS.values())
        raise UserError(f"no mixer has the letter {letter!r} of model.layer_pattern; choose of {known}")
    return MIXERS[letter]
