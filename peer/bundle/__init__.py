"""A support bundle: everything that somebody needs who was not there, in one file, without secrets.

It is made when something is wrong, so nothing of it may depend on anything else: every part is
asked for by itself, within a bound, and what cannot be had leaves the reason in its place.
"""
