"""What happens to a video file on this machine: look at it, make renditions of it, check them.

It knows ffmpeg and the shapes that videos come in. It does not know tasks, claims or the ledger:
it is given a local file and an order, and answers with verified files or with an error.
"""
