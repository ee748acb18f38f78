"""Pure decisions: no queries, no models, no clock. Time arrives as an argument."""

from __future__ import annotations
