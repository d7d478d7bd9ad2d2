"""Telling administrators: what is said of an escalation, and the ways to them.

Knows texts and addresses. It does not know where escalations come from nor when to speak: that is
`pipeline.notifier`'s.
"""
