"""Rows and tables for people."""
