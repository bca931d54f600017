"""A key whose value may change its type."""

from ml_collections import FieldReference


def any_type(value: object) -> FieldReference:
    """The default of a key that takes values of several types. Other keys keep the type of their default."""
    return FieldReference(value, field_type=object)
