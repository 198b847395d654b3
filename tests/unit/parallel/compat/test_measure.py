"""The command behind the figures: a rank starts in silence, and each change that it is made without is missed."""

import pytest

from hyena_dist.parallel.compat.measure import CHANGES, main, measure


def test_a_start_without_each_answer(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--repeats", "1", "answer_random_states", "ignore_renamed_collectives"])
    head, nothing, states, collectives = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["left", "out", "CPU", "wall", "lines"]
    name, cpu, wall, lines, *error = nothing.split()
    assert (name, lines, error) == ("nothing", "0", [])
    assert 0 < float(cpu.rstrip("s")) < 600
    assert 0 < float(wall.rstrip("s")) < 600
    assert "AssertionError: Torch not compiled with CUDA" in states
    assert int(collectives.split()[3]) > 0


def test_every_change_is_where_it_is_said_to_be() -> None:
    from importlib import import_module

    for name, module in CHANGES.items():
        assert callable(getattr(import_module(module), name))


def test_a_mistyped_change(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["answers"])
    assert "answer_device" in capsys.readouterr().err
    assert measure.__doc__
