"""The REST API: HTTP in, one service or queryset, HTTP out."""
