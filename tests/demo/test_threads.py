from gpt_oss_proxy.demo.conversation import Message
from gpt_oss_proxy.demo.threads import Thread, Threads


def test_a_thread_is_found_by_its_owner_only() -> None:
    threads = Threads()
    thread = Thread("ada", (Message("user", "hello"),))
    threads.keep("thr_1", thread)
    assert threads.find("thr_1", "ada") == thread
    assert threads.find("thr_1", "bob") is None
    assert threads.find("thr_2", "ada") is None


def test_the_thread_that_was_not_used_for_longest_is_forgotten_first() -> None:
    threads = Threads(limit=2)
    for thread_id in ("thr_1", "thr_2", "thr_1", "thr_3"):
        threads.keep(thread_id, Thread("ada"))
    found = [thread_id for thread_id in ("thr_1", "thr_2", "thr_3") if threads.find(thread_id, "ada")]
    assert found == ["thr_1", "thr_3"]
