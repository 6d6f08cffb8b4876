"""What can go wrong with what travels.

SchemaError
├── UndecodableRecordError     bytes that are not what their topic holds
├── SchemaRegistryError     the schema registry refused or could not be reached
│   └── UnknownSchemaError  it does not know the schema that a record names
└── WrongTopicError         a topic whose settings would lose or mix data
"""


class SchemaError(Exception):
    """The root of this package's errors."""


class UndecodableRecordError(SchemaError):
    """A record's bytes do not decode; `reason` is short and fit for a metric label."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class SchemaRegistryError(SchemaError):
    """The schema registry refused a schema, or could not be reached."""


class UnknownSchemaError(SchemaRegistryError):
    """The schema registry does not know the schema that a record names: the record is wrong."""


class WrongTopicError(SchemaError):
    """A topic is missing, or has settings under which shiplog would lose or mix data."""
