"""What a cloud's new machine does when it first starts: takes its name and joins the Swarm. Pure.

It is `#cloud-config` whose YAML is written as JSON (which is YAML, too): nothing has to be escaped
by hand. Who has machines that need more brings a file of his own, with the same three values to be
filled in that the commands of `exec` get as variables.

The token is then in the machine's user data, which whatever runs there can read from the cloud's
metadata service; it lets machines join as workers. README.md says how to rotate it.
"""

from __future__ import annotations

import shlex

import msgspec

from scaling.providers.join import Join

SCRIPT = "/var/lib/grapevine-join"

# Managers may be replaced while a machine boots, so each is tried in turn, for ten minutes in all.
_JOIN = """\
#!/bin/sh
rm -f {script}
tries=0
while [ "$tries" -lt 120 ]; do
    for manager in {addresses}; do
        if docker swarm join --token {token} "$manager"; then exit 0; fi
    done
    state=$(docker info --format '{{{{.Swarm.LocalNodeState}}}}')
    if [ "$state" = active ]; then exit 0; fi
    tries=$((tries + 1))
    sleep 5
done
exit 1
"""


def user_data(name: str, join: Join, template: str | None = None) -> str:
    """Write it.

    Args:
        name: Becomes the host name, by which the Swarm's node is known as this machine.
        template: The user's own, with `${GRAPEVINE_NODE_NAME}`, `${GRAPEVINE_JOIN_TOKEN}` and
            `${GRAPEVINE_JOIN_ADDRESSES}` (with commas between them) to be filled in.
    """
    if template is not None:
        return (
            template.replace("${GRAPEVINE_NODE_NAME}", name)
            .replace("${GRAPEVINE_JOIN_TOKEN}", join.token)
            .replace("${GRAPEVINE_JOIN_ADDRESSES}", ",".join(join.addresses))
        )
    script = _JOIN.format(
        script=SCRIPT,
        token=shlex.quote(join.token),
        addresses=" ".join(shlex.quote(address) for address in join.addresses),
    )
    document = {
        "hostname": name,
        "preserve_hostname": False,
        "write_files": [{"path": SCRIPT, "permissions": "0700", "content": script}],
        "runcmd": [[SCRIPT]],
    }
    return "#cloud-config\n" + msgspec.json.format(msgspec.json.encode(document)).decode() + "\n"
