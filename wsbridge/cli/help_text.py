"""What --help says. Text only."""

from typing import NamedTuple


class Page(NamedTuple):
    """The help of one command."""

    summary: str
    text: str
    examples: str


ABOUT = "Every event of a user in every open tab of that user, once, in order."
EXAMPLES = """\
  wsbridge serve
  wsbridge listen --user alice
  wsbridge publish --user alice task.created task_id=1 title='Buy milk'

Settings come from the environment: `wsbridge serve --help` lists them,
`wsbridge check` looks at them. Exit codes: 0 it worked, 1 it did not,
2 wrong words or settings, 130 ended by Ctrl-C."""

SERVE = Page(
    "run the bridge",
    """\
Run the bridge until SIGTERM or Ctrl-C. Then it shuts down gracefully, within
WSBRIDGE_DRAIN_TIMEOUT; a second signal ends it at once.
All settings come from the environment:""",
    """\
  wsbridge serve
  WSBRIDGE_PORT=9000 WSBRIDGE_LOG_LEVEL=debug wsbridge serve
  WSBRIDGE_HOST=0.0.0.0 WSBRIDGE_JWT_SECRET_FILE=/run/secrets/jwt wsbridge serve""",
)
TOKEN = Page(
    "make a token for tests",
    """\
Print a token for tests, signed with WSBRIDGE_JWT_SECRET, and nothing else. With
a public key or a JWKS the bridge can only verify: then the owner of the private
key makes the tokens.""",
    """\
  wsbridge token --user alice
  wsbridge listen --user alice --token "$(wsbridge token --user alice --ttl 60)\"""",
)
LISTEN = Page(
    "follow a user's events",
    """\
Follow a user's events in a terminal. Piped, it prints a line of JSON for each
message, byte for byte as it came. Each close and each gap is explained on
standard error. It reconnects as a client should and resumes after the last
message that it printed.

Without --token it makes a token for each connection, if WSBRIDGE_JWT_SECRET is
set. It ends with exit code 1 at a close code after which no client may
reconnect, and when the bridge refuses the token of --token.""",
    """\
  wsbridge listen --user alice
  wsbridge listen --user alice | jq -c 'select(.type == "task_update").event'
  wsbridge listen --user alice --url wss://push.example.com/ws --token "$TOKEN\"""",
)
PUBLISH = Page(
    "publish an event",
    """\
Post a CloudEvent to a running bridge, or publish it through a Dapr sidecar.
Prints the status that is answered; the exit code is 0 only if that is SUCCESS
(204 from a sidecar). APP_API_TOKEN is sent to the bridge, DAPR_API_TOKEN to the
sidecar, if they are set. WSBRIDGE_USER_ID_FIELD says where the user goes. The
number of connections that each user has to that bridge is on standard error;
outside of development mode that needs WSBRIDGE_ADMIN_TOKEN.""",
    """\
  wsbridge publish --user alice task.created task_id=1 title='Buy milk'
  wsbridge publish --user alice --user bob task.updated id=7 done:=true
  wsbridge publish --user alice task.created task_id=1 title='Buy milk' --dapr
  wsbridge publish --user alice task.created --dapr http://127.0.0.1:3501""",
)
CHECK = Page(
    "look at the settings",
    """\
Print the effective settings, secrets masked, then every mistake in them; an
unknown WSBRIDGE_ name is a mistake here. Exit code 2 if there is any. Settings
that leave something open, such as a missing token, are warnings.""",
    """\
  wsbridge check
  WSBRIDGE_PORT=http wsbridge check""",
)
HEALTHCHECK = Page(
    "ask a running bridge for its health",
    """\
Ask a running bridge for its health, as a container does. Exit code 0 if it is
healthy or degraded, else 1.""",
    """\
  wsbridge healthcheck
  wsbridge healthcheck --url http://127.0.0.1:9000/health""",
)
