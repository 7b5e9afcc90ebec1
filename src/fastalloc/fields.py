"""What the fields of a user's files are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, le=1 << 31)]
Positive = Annotated[int, Field(ge=1, le=1 << 31)]
Nanoseconds = Annotated[int, Field(ge=0, le=1_000_000_000)]


class Model(BaseModel):
    """Base of everything a scenario is made of: no unknown keys, no silent conversion, no change after the fact."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
