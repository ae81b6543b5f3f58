"""The main job, on real sockets: a CloudEvent in, every tab of its user updated."""

from tests.support import Running, receive


async def test_an_event_reaches_every_tab_of_its_user_and_nobody_else(bridge: Running) -> None:
    first, hello = await bridge.opened("user-123")
    second, _ = await bridge.opened("user-123")
    other, _ = await bridge.opened("user-456")
    epoch = hello["last_event_id"].split(":")[0]

    data = {"event_type": "task.created", "user_id": "user-123", "task_id": "456", "title": "New Task"}
    assert await bridge.publish(data) == "SUCCESS"
    for tab in (first, second):
        message = await receive(tab)
        assert message["type"] == "task_update"
        assert message["event"] == data
        assert message["id"] == f"{epoch}:1"
    await other.send_str('{"type":"ping"}')
    assert await receive(other) == {"type": "pong"}
