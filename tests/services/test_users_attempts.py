from __future__ import annotations

from services.users.attempts import Attempts


def fail(attempts: Attempts, account: str, address: str, now: float) -> bool:
    """Whether a try was let through, and failed."""
    if attempts.wait(account, address, now):
        return False
    attempts.failed(account, address, now)
    return True


def test_a_window_ends_and_the_wait_says_when() -> None:
    attempts = Attempts(2, 60)
    assert [fail(attempts, "ann", "::1", now) for now in (0, 10, 20)] == [True, True, False]
    assert attempts.wait("ann", "::1", 20) == 40
    assert attempts.wait("ann", "::1", 60) == 0
    assert [fail(attempts, "ann", "::1", now) for now in (60, 61, 62)] == [True, True, False]


def test_an_owner_elsewhere_is_not_locked_out_by_a_guesser() -> None:
    attempts = Attempts(2, 60)
    assert [fail(attempts, "ann", "evil", 0) for _ in range(9)].count(True) == 2
    assert attempts.wait("ann", "home", 0) == 0


def test_many_addresses_and_many_accounts_are_bounded_too() -> None:
    attempts = Attempts(2, 60)
    assert [fail(attempts, "ann", f"host{number}", 0) for number in range(50)].count(True) == 20
    attempts = Attempts(2, 60)
    assert [fail(attempts, f"user{number}", "evil", 0) for number in range(50)].count(True) == 20


def test_who_signs_in_is_forgiven_and_what_is_not_known_does_not_count() -> None:
    attempts = Attempts(2, 60)
    for _ in range(9):
        assert fail(attempts, "ann", "home", 0)
        assert fail(attempts, "ann", "home", 0)
        attempts.succeeded("ann", "home")
    attempts = Attempts(2, 60)
    for _ in range(50):
        assert fail(attempts, "ann", "home", 0)
        attempts.undecided("ann", "home")


def test_what_is_remembered_is_bounded() -> None:
    attempts = Attempts(2, 60, remembered=9)
    for number in range(100):
        attempts.failed(f"user{number}", f"host{number}", 0)
    assert len(attempts._failures) == 9
