"""scikit-learn's conventions about parameters, without scikit-learn."""

from __future__ import annotations

import inspect
from typing import Any, Self


class Parameters:
    """Parameters are the constructor's arguments, attributes of the same names."""

    _state: Any = None
    _results: Any = None

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **parameters: Any) -> Self:
        """Change the constructor's arguments; rows seen so far are forgotten if any differs.

        Raises
        ------
        ValueError
            There is no argument of that name.
        """
        names = self._parameter_names()
        for name in parameters:
            if name not in names:
                raise ValueError(
                    f"{name} is no parameter of {type(self).__name__}; those are {', '.join(names)}"
                )
        for name, value in parameters.items():
            if getattr(self, name) is not value:
                self._state = self._results = None
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({arguments})"

    def __sklearn_tags__(self) -> Any:
        # Only scikit-learn calls this, so it is loaded.
        from sklearn.utils import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            InputTags,
            Tags,
            TargetTags,
            TransformerTags,
        )

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float32", "float64"]),
            input_tags=InputTags(sparse=True),
        )
