"""The process around the rooms: settings, wiring, start and stop, `peerctl`, events, logs.

It knows every other room, and none of them knows it. It does not know how any of their work is
done: what a class decides is that class's, and here it is only said which classes meet.

Nothing is imported here: `peerctl` must load neither trio nor a database driver.
"""
