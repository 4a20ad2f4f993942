"""Reducers: sweep fold, reductions, projector of read models."""
