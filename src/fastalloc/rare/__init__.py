"""Rare events: rates from plain lanes, a ladder of stress settings, and the point of no return of one lane."""
