"""Membership turns what is heard into members: suspicion, death, departure, a proposed leader.

It knows peers, how long each has been silent and who else says so. It does not know what a member
was working on, nor what is done about its death: it says that a peer is gone, and others act.
"""
