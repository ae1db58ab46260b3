"""What may be None where it must not be: a claim, a JSON file's content, a match."""

from typing import TypeVar

Thing = TypeVar("Thing")


def there(thing: Thing | None) -> Thing:
    """The thing itself; the test that asks fails where there is none."""
    assert thing is not None
    return thing
