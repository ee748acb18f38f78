"""What people do: plain functions named noun_verb, one transaction each."""
