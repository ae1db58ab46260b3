"""What losses say of themselves, in a form that can be kept: to import a loss takes two seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from optuna.distributions import distribution_to_json, json_to_distribution

from study.settings.hyperparameters import Space

if TYPE_CHECKING:
    from study.losses.base import GANLoss


@dataclass(frozen=True)
class About:
    """The class attributes of a loss that say what it is (`GANLoss`)."""

    title: str
    source: str
    defaults: Mapping[str, Any]
    labels: Mapping[str, str]
    space: Mapping[str, Space]

    @classmethod
    def of(cls, loss: "type[GANLoss]") -> Self:
        """What a loss's class says."""
        return cls(loss.title, loss.source, dict(loss.defaults), dict(loss.labels), loss.space)


@dataclass(frozen=True)
class Known:
    """What there is in the folder: the losses, and what is wrong with the files that are none."""

    about: dict[str, About]
    problems: list[str]

    def to_json(self) -> dict[str, Any]:
        """As JSON's own types."""
        losses = {
            name: vars(said) | {"space": _each(said.space, distribution_to_json)}
            for name, said in self.about.items()
        }
        return {"about": losses, "problems": self.problems}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The same back again; ValueError where there were problems: they may be mended since.

        (A file that could not be imported for want of a package is the same file afterwards.)
        """
        if content["problems"]:
            raise ValueError("to be asked anew")
        about = {
            name: About(**said | {"space": _each(said["space"], json_to_distribution)})
            for name, said in content["about"].items()
        }
        return cls(about, content["problems"])


def _each(space: Mapping[str, Mapping[str, Any]], change: Any) -> dict[str, dict[str, Any]]:
    return {
        ranges: {name: change(value) for name, value in values.items()}
        for ranges, values in space.items()
    }
