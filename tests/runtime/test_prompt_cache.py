from qwenctl.runtime.prompt_cache import LARGEST_STATE_BYTES, PromptCache

FIRST, SECOND = list(range(1000)), list(range(5000, 6000))


def cache(limit_bytes: int = 100, available_bytes: int = 10_000) -> PromptCache:
    """A cache with so much RAM."""
    return PromptCache(limit_bytes, lambda: available_bytes)


def put(into: PromptCache, tokens: list[int], size_bytes: int) -> bool:
    """Keeps a state of that size, if it may."""
    fits = into.make_room(size_bytes)
    if fits:
        into.add(tokens, bytearray(size_bytes))
    return fits


def test_who_was_used_least_recently_goes_first() -> None:
    """A state that lent its beginning is young again."""
    kept = cache()
    assert put(kept, FIRST, 40) and put(kept, SECOND, 40)
    found = kept.find([*FIRST[:500], 7])
    assert found is not None and found[1] == 500
    kept.use(*found)
    assert put(kept, [9] * 1000, 40)
    assert kept.holds(FIRST) and not kept.holds(SECOND)
    assert kept.held_bytes == 80


def test_what_goes_on_in_a_slot_goes_from_here() -> None:
    """Its conversation would be kept twice."""
    kept = cache()
    put(kept, FIRST, 40)
    found = kept.find([*FIRST, 7])
    assert found is not None
    kept.use(*found)
    assert kept.find(FIRST) is None and kept.held_bytes == 0


def test_a_longer_conversation_replaces_its_beginning() -> None:
    """The same chat, a turn later."""
    kept = cache()
    put(kept, FIRST[:700], 30)
    put(kept, FIRST, 40)
    assert kept.held_bytes == 40


def test_the_bytes_are_bounded() -> None:
    """By the limit, by a quarter of the RAM that is available without the cache, and by one state's size."""
    assert not put(cache(), FIRST, 101)
    assert not put(cache(), FIRST, 0)
    assert not put(cache(2 * LARGEST_STATE_BYTES, 100 * LARGEST_STATE_BYTES), FIRST, LARGEST_STATE_BYTES + 1)
    short = cache(available_bytes=200)
    assert put(short, FIRST, 50)
    assert put(short, SECOND, 60), "(200 + 50) / 4 bytes, when the first is gone"
    assert short.held_bytes == 60


def test_a_state_without_room_costs_no_other() -> None:
    """What cannot come in pushes nobody out."""
    kept = cache(available_bytes=360)
    assert put(kept, FIRST, 40)
    assert not put(kept, SECOND, 101)
    assert not put(cache(1000, 100), SECOND, 26)
    kept = PromptCache(1000, lambda: 360)
    assert put(kept, FIRST, 40)
    assert not put(kept, SECOND, 101), "a quarter of 400 bytes"
    assert kept.held_bytes == 40


def test_a_recurrent_state_is_found_only_as_a_whole() -> None:
    """It cannot be cut to the common beginning."""
    kept = cache()
    put(kept, FIRST, 40)
    assert kept.find([*FIRST[:900], 7, 8], rewinds=False) is None
    found = kept.find([*FIRST, 7], rewinds=False)
    assert found is not None and found[1] == 1000
