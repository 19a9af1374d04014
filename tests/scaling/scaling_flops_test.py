"""FLOPs and parameter counts against the published tables (specification 6.2, 6.3) and
layer-by-layer counts."""

from __future__ import annotations

import itertools

import pytest

from rlx.scaling import ScalingError, flops


def _by_hand(obs, act, hidden):
    """Dot FLOPs per sample of one SAC update, layer by layer: forward, weight and input gradients
    of each pass."""

    def layers(sizes):
        return [2 * i * o for i, o in itertools.pairwise(sizes)]

    critic, actor = layers([obs + act, *hidden, 1]), layers([obs, *hidden, 2 * act])
    forward_c, forward_a = 2 * sum(critic), sum(actor)  # two critics
    train_c = forward_c + 2 * sum(critic) + 2 * sum(critic[1:])
    actor_step = forward_a + sum(actor) + sum(actor[1:]) + forward_c + 2 * sum(critic)
    return forward_a + forward_c + train_c + actor_step


@pytest.mark.parametrize(
    "obs, act, hidden",
    [(17, 6, (256, 256)), (27, 8, (256, 256)), (67, 21, (512,) * 4), (3, 1, (64, 64))],
)
def test_sac_equals_a_count_layer_by_layer(obs, act, hidden):
    got = flops.sac(obs, act, hidden, hidden, batch_size=256)
    assert got.per_update == 256 * _by_hand(obs, act, hidden)
    assert got.per_update == sum(got.breakdown.values())
    assert isinstance(got.per_update, int)


def test_the_paper_count_is_too_low_by_the_measured_factor():
    for obs, act, hidden in (
        (17, 6, (256, 256)),
        (27, 8, (256, 256)),
        (376, 17, (256, 256)),
        (67, 21, (512,) * 4),
    ):
        got = flops.sac(obs, act, hidden, hidden, batch_size=256)
        assert got.flops_paper == 10 * got.critic_params * 256
        assert 1.43 - 0.005 <= got.per_update / got.flops_paper <= 1.59 + 0.005


@pytest.mark.parametrize("obs, act, count", [(27, 8, 150530), (17, 6, 144386), (376, 17, 333826)])
def test_critic_parameters_of_gym_tasks(obs, act, count):
    assert flops.sac(obs, act, (256, 256), (256, 256), 256).critic_params == count


def test_layer_norm_adds_parameters_but_no_dot_flops():
    plain = flops.sac(17, 6, (256, 256), (256, 256), 256)
    normed = flops.sac(17, 6, (256, 256), (256, 256), 256, layer_norm=True)
    assert normed.per_update == plain.per_update
    assert normed.critic_params == plain.critic_params + 2 * 2 * 2 * 256
    assert normed.elementwise["adam"] == 16 * (normed.critic_params + normed.actor_params)


def test_an_ensemble_counts_all_members():
    two = flops.sac(17, 6, (256, 256), (256, 256), 256)
    ten = flops.sac(17, 6, (256, 256), (256, 256), 256, ensemble=10)
    assert ten.critic_params == 5 * two.critic_params
    assert ten.breakdown["critic_update"] == 5 * two.breakdown["critic_update"]
    assert ten.breakdown["target_actor"] == two.breakdown["target_actor"]


def test_bro_critic_sizes_of_the_file_names():
    sizes = [flops.bronet(70, w, 2, 100).times(2).params for w in (128, 256, 512, 1024, 2048, 4096)]
    assert sizes == [178632, 619208, 2286792, 8767688, 34312392, 135733448]
    assert flops.bro(223, 38, 1).critic_params == 2482376


def test_bro_on_dog():
    assert flops.bro(223, 38, batch_size=1).per_update == 42008576
    assert flops.bro(223, 38, batch_size=128).per_update == 128 * 42008576
    m_c, f_c, m_a, f_a = 2466816, 267264, 207616, 57088
    minimal = flops.bro(223, 38, batch_size=1, optimistic=False)
    assert minimal.per_update == 12 * m_c - 2 * f_c + 8 * m_a - 2 * f_a
    assert flops.bro(223, 38, 1).per_env_step == 2 * m_a + 2 * 207616
    assert minimal.elementwise["quantile_loss"] == 10 * 2 * 100**2


def test_pql_is_a_critic_update_and_half_a_policy_update():
    hidden = (512, 256, 128)
    got = flops.pql(60, 8, hidden, hidden, batch_size=8192)
    m_c = 2 * (68 * 512 + 512 * 256 + 256 * 128 + 128)
    f_c = 2 * 68 * 512
    m_a, f_a = 60 * 512 + 512 * 256 + 256 * 128 + 128 * 8, 60 * 512
    assert got.per_update == 8192 * (2 * m_a + 8 * m_c - 2 * f_c) + 4096 * (
        6 * m_a - 2 * f_a + 4 * m_c
    )
    assert got.per_env_step == 2 * m_a


def test_bro_counts_its_blocks_heads_and_quantiles():
    """Against layer-by-layer products: 4 critic blocks, 2 actor blocks, 51 quantiles."""
    obs, act = 60, 8
    got = flops.bro(obs, act, 1, critic_width=128, actor_width=64, quantiles=51,
                    optimistic=False, critic_blocks=4, actor_blocks=2)  # fmt: skip
    m_c = 2 * ((obs + act) * 128 + 4 * 2 * 128 * 128 + 128 * 51)
    m_a = obs * 64 + 2 * 2 * 64 * 64 + 64 * 2 * act
    f_c, f_a = 2 * (obs + act) * 128, obs * 64
    assert got.per_update == 12 * m_c - 2 * f_c + 8 * m_a - 2 * f_a
    assert got.critic_params == 2 * (
        128 * (obs + act + 1) + 2 * 128 + 4 * 2 * (128 * 129 + 2 * 128) + 51 * 129
    )
    full = flops.bro(obs, act, 1, 128, 64, 51, True, 4, 2)
    m_d, f_d = (obs + act) * 64 + 2 * 2 * 64 * 64 + 64 * act, (obs + act) * 64
    assert full.per_update - got.per_update == 4 * m_c + 2 * m_a + 6 * m_d - 2 * f_d
    assert full.actor_params - got.actor_params == (
        m_d + 64 + 2 * 64 + 2 * 2 * (64 + 2 * 64)  # biases and LayerNorms; no bias in the head
    )


def test_pql_with_atoms_and_another_policy_delay():
    one = flops.pql(60, 8, (64,), (64,), batch_size=12, updates_per_policy_update=2)
    dist = flops.pql(60, 8, (64,), (64,), batch_size=12, updates_per_policy_update=3, atoms=51)
    assert dist.critic_params - one.critic_params == 2 * 50 * 65
    assert dist.breakdown["target_critic"] - one.breakdown["target_critic"] == 12 * 4 * 64 * 50
    assert 2 * one.breakdown["actor_update_actor"] == 3 * dist.breakdown["actor_update_actor"]
    with pytest.raises(ValueError, match="atoms=0"):
        flops.pql(60, 8, (64,), (64,), 12, atoms=0)


def test_pql_shares_a_policy_update_over_any_delay():
    hidden = (512, 256, 128)
    whole = flops.pql(60, 8, hidden, hidden, 8192, updates_per_policy_update=1)
    policy = {name: n for name, n in whole.breakdown.items() if name.startswith("actor_update")}
    for delay in (2, 3, 5):
        got = flops.pql(60, 8, hidden, hidden, 8192, updates_per_policy_update=delay)
        assert got.per_update == sum(got.breakdown.values())
        critic = whole.per_update - sum(policy.values())
        assert got.per_update == critic + round(sum(policy.values()) / delay)
        for name, count in policy.items():
            assert abs(delay * got.breakdown[name] - count) <= delay


def test_a_learner_by_name():
    dims = dict(obs_dim=223, action_dim=38, batch_size=1)
    assert flops.flops("bro", **dims) == flops.bro(223, 38, 1)
    with pytest.raises(ScalingError, match=r"unknown dimension of bro 'blocks'.*critic_blocks"):
        flops.flops("bro", **dims, blocks=2)
    with pytest.raises(ScalingError, match="unknown learner 'ppo'"):
        flops.flops("ppo")


@pytest.mark.parametrize("width, depth", [(1, 2), (64, 1), (256, 2), (777, 3)])
def test_the_width_that_has_a_number_of_parameters(width, depth):
    exact = flops.mlp([23, *[width] * depth, 1]).times(2).params
    assert flops.width_for(exact, 23, depth) == width
    assert flops.width_for(exact * 1.0001, 23, depth) == width
