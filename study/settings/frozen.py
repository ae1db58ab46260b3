"""What settings are: immutable models, names that are safe as paths, problems in one line."""

import difflib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

# Names become paths below results/ and analysis/: wherever a sweep, a table or a configuration is
# read, which may come from other hands, they are held to this alphabet.
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
NAME_RULE = "names have 1 to 64 letters, digits, _ or -, and begin with a letter or digit"
# Tables in results/ that are no sweep's: one of such a name would be overwritten.
NO_SWEEPS = ("agreement", "behaviour", "convergence", "untrained")
Name = Annotated[str, StringConstraints(pattern=NAME)]


class Frozen(BaseModel):
    """An immutable model that refuses unknown keys, and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def first_problem(error: ValidationError, *models: type[BaseModel]) -> str:
    """One problem that pydantic found, in one line; it may name the keys of `models`."""
    # A misspelt key is also a missing one: name what is there before what is not.
    problem = min(error.errors(), key=lambda found: found["type"] == "missing")
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = sorted({name for model in models for name in model.model_fields} - {"name"})
        close = difflib.get_close_matches(key.split(".")[-1], known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"allowed: {', '.join(known)}"
        return f"unknown key '{key}'; {hint}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    if problem["type"] == "string_pattern_mismatch":
        return f"{key} = {problem['input']!r}: {NAME_RULE}"
    if not key:
        return problem["msg"]
    return f"{key} = {problem['input']!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
