"""Filters that the lists share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import django_filters
from django import forms
from rest_framework.exceptions import ValidationError

from tasks_app.api.fields import MAX_ID, Moment


class MomentFormField(forms.Field):
    """A query parameter that is a time, by the rules of `Moment`."""

    def to_python(self, value: Any) -> datetime | None:
        if value in self.empty_values:
            return None
        try:
            # An unescaped + arrives as a space.
            moment: datetime = Moment().run_validation(value.replace(" ", "+"))
        except ValidationError as error:
            detail: Any = error.detail[0]  # type: ignore[index]  # a field's: a list
            raise forms.ValidationError(str(detail), detail.code) from error
        return moment


class MomentFilter(django_filters.Filter):  # type: ignore[misc]  # untyped
    field_class = MomentFormField


class IdFilter(django_filters.NumberFilter):  # type: ignore[misc]  # untyped
    """An id: within 64 bits, or no row could have it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(
            *args, min_value=1, max_value=MAX_ID, decimal_places=0, **kwargs
        )


class StableOrdering(django_filters.OrderingFilter):  # type: ignore[misc]  # untyped
    """Ends with the id, so that pages neither repeat nor miss a row."""

    def filter(self, qs: Any, value: Any) -> Any:
        ordered = super().filter(qs, value)
        return ordered.order_by(*ordered.query.order_by, "pk")
