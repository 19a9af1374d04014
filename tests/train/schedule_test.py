"""The exact updates-to-data ratio, and events that do not depend on how long chunks are."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from rlx.infra.errors import ConfigError
from rlx.infra.fields import parse_ratio
from rlx.train.schedule import Schedule, utd_schedule

ENVS = (1, 4, 16, 128, 4096)
RATIOS = (0.0625, 0.5, 0.3, 1.0, 8.0, "1/3", "1/256", 0.1, 1.7)


@pytest.mark.parametrize("num_envs", ENVS)
@pytest.mark.parametrize("utd", RATIOS)
def test_the_ratio_is_met_within_a_percent_by_the_smallest_iteration(utd, num_envs):
    asked = parse_ratio(utd)
    H, G = utd_schedule(asked, num_envs)
    assert H >= 1 and G >= 1
    assert abs(Fraction(G, H * num_envs) / asked - 1) <= Fraction(1, 100)
    assert 64 >= H or asked * num_envs < Fraction(1, 64)
    for shorter in range(1, H):  # no smaller H would do, with any whole G >= 1
        best = max(1, round(asked * shorter * num_envs))
        near = [
            abs(Fraction(g, shorter * num_envs) / asked - 1)
            for g in (best - 1, best, best + 1)
            if g
        ]
        assert min(near) > Fraction(1, 100)


@pytest.mark.parametrize(
    "utd, num_envs, want",
    [
        (0.0625, 16, (1, 1)),
        (0.0625, 1, (16, 1)),
        (0.0625, 4096, (1, 256)),
        (8, 1, (1, 8)),
        (8, 16, (1, 128)),
        (0.3, 1, (10, 3)),
        (0.3, 4, (5, 6)),
        ("1/3", 1, (3, 1)),
        ("1/3", 128, (1, 43)),  # 43 / 128 is 0.8 % above 1/3
        ("1/256", 1, (254, 1)),  # longer than 64, as utd * num_envs < 1/64
        ("1/256", 4096, (1, 16)),
    ],
)
def test_known_schedules(utd, num_envs, want):
    assert utd_schedule(parse_ratio(utd), num_envs) == want


def test_a_ratio_that_no_iteration_meets_names_the_nearest():
    """2/85 lies 1.2 % from both 1/43 and 1/42, and would itself take more than 64 steps."""
    with pytest.raises(ConfigError) as caught:
        utd_schedule(Fraction(2, 85), 1)
    assert str(caught.value) == (
        "train.utd = 0.0235294 cannot be met within 1 % at env.num_envs = 1; "
        "nearest feasible: --utd=1/43 or --utd=1/42"
    )


def test_the_suggestions_for_an_infeasible_ratio_are_feasible():
    """All n / 977 at one environment: some cannot be met, and what is typed instead can."""
    found = 0
    for numerator in range(1, 400):
        asked = Fraction(numerator, 977)
        try:
            utd_schedule(asked, 1)
        except ConfigError as error:
            found += 1
            for hint in str(error).split("nearest feasible: ")[1].split(" or "):
                ratio = parse_ratio(hint.removeprefix("--utd="))
                H, G = utd_schedule(ratio, 1)
                assert Fraction(G, H) == ratio
                assert abs(ratio / asked - 1) < Fraction(1, 10)
    assert found


# num_envs, total, prefill, H, G, log_every, eval_every
PLANS = [
    Schedule(8, 4000, 125, 1, 4, 40, 100),
    Schedule(8, 8001, 16, 3, 7, 100, 800),
    Schedule(16, 5000, 64, 1, 1, 50, 1250),
    Schedule(1, 700, 33, 10, 3, 7, 18),
    Schedule(128, 20_000, 8, 1, 8, 200, 500),
    Schedule(4, 1002, 250, 2, 1, 1000, 1000),  # all prefill but for one iteration
]


def simulate(plan: Schedule, limit):
    """Drive `plan` as the driver does; return events {step: kinds}, final (step, grad_steps)."""
    step = grad = 0
    events: dict[int, set[str]] = {}
    while not plan.done(step):
        n = plan.iterations(step, limit())
        assert 1 <= n
        H, G = (1, 0) if step < plan.prefill else (plan.H, plan.G)
        before, step, grad = step, step + n * H, grad + n * G
        assert not before < plan.prefill < step, "a chunk mixes random and learned actions"
        assert step <= plan.next_event(before), "a chunk runs past an event"
        for kind, period in (("log", plan.log_every), ("eval", plan.eval_every)):
            if plan.done(step) or plan.crossed(period, before, step):
                events.setdefault(step, set()).add(kind)
    return events, step, grad


@pytest.mark.parametrize("plan", PLANS)
def test_events_and_totals_do_not_depend_on_chunk_lengths(plan):
    reference = simulate(plan, lambda: 1)
    assert simulate(plan, lambda: 10**9) == reference
    for seed in range(20):
        draw = random.Random(seed)
        assert simulate(plan, lambda draw=draw: draw.choice((1, 2, 3, 7, 50, 400))) == reference


@pytest.mark.parametrize("plan", PLANS)
def test_the_run_ends_on_the_first_whole_iteration_past_its_total(plan):
    events, step, grad = simulate(plan, lambda: 10**9)
    iterations, rest = divmod(step - plan.prefill, plan.H)
    assert rest == 0
    assert step * plan.num_envs >= plan.total > (step - plan.H) * plan.num_envs
    assert grad == iterations * plan.G
    assert plan.achieved_utd(step, grad) == pytest.approx(plan.G / (plan.H * plan.num_envs))
    assert max(events) == step and events[step] == {"log", "eval"}


@pytest.mark.parametrize("plan", PLANS)
def test_each_event_is_the_first_reachable_step_past_a_multiple(plan):
    """No multiple of a period is skipped, none is late by an iteration."""
    events, step, _ = simulate(plan, lambda: 10**9)
    reachable = [*range(1, plan.prefill + 1), *range(plan.prefill + plan.H, step + 1, plan.H)]
    for kind, period in (("log", plan.log_every), ("eval", plan.eval_every)):
        want = {step}
        for multiple in range(period, step * plan.num_envs + 1, period):
            want.add(next(s for s in reachable if s * plan.num_envs >= multiple))
        assert {s for s, kinds in events.items() if kind in kinds} == want


def test_a_resume_in_the_middle_sees_the_same_events():
    """Cut after any chunk of one simulation: what remains depends on the step alone."""
    plan = PLANS[1]
    reference, end, _ = simulate(plan, lambda: 1)
    step = 0
    while not plan.done(step):
        later = {s for s in reference if s > step}
        assert plan.next_event(step) <= min(later)
        step += plan.iterations(step, 5) * (1 if step < plan.prefill else plan.H)
    assert step == end


def test_no_ratio_is_reported_before_the_first_learned_step():
    plan = PLANS[0]
    assert plan.achieved_utd(plan.prefill, 0) is None
    assert plan.achieved_utd(plan.prefill + 2, 8) == 0.5
