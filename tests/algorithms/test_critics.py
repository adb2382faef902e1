"""Critics: values of joint actions against a plain loop over members and sub-actions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_policies import ragged, random_actions
from torch.nn import functional

from spin_rl.algorithms.networks.critics import FactoredCritic, ValueNetwork
from spin_rl.errors import UserError


@given(nvec=ragged, batch=st.integers(1, 4), members=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_a_joint_value_is_the_sum_of_its_sub_actions_values(nvec, batch, members):
    torch.manual_seed(0)
    critic = FactoredCritic(5, nvec, 8, members)
    observation, action = torch.randn(batch, 5), random_actions(batch, nvec)
    assert critic(observation).shape == (members, batch, len(nvec), max(nvec))
    with torch.no_grad():
        joint = critic.joint_value(observation, action)
        for member in range(members):
            x = observation
            for layer in critic.layers[:-1]:
                x = functional.relu(functional.linear(x, layer.weight[member].T, layer.bias[member, 0]))
            last = critic.layers[-1]
            for row in range(batch):
                value = 0.0
                for index, choice in enumerate(action[row].tolist()):
                    column = index * max(nvec) + choice
                    value += float(x[row] @ last.weight[member, :, column] + last.bias[member, 0, column])
                torch.testing.assert_close(float(joint[member, row]), value, atol=1e-5, rtol=1e-5)


def test_members_start_apart():
    critic = FactoredCritic(5, (3, 2), 8)
    for parameter in critic.parameters():
        assert not torch.equal(parameter[0], parameter[1])


def test_the_value_network_gives_one_number_a_state():
    assert ValueNetwork(5, 8)(torch.randn(4, 5)).shape == (4,)


def test_a_mean_decomposition_divides_the_sum_by_the_sub_actions():
    total, mean = FactoredCritic(5, (3, 2, 4), 8), FactoredCritic(5, (3, 2, 4), 8, decomposition="mean")
    mean.load_state_dict(total.state_dict())
    observation, action = torch.randn(6, 5), torch.tensor([[2, 1, 3]]).expand(6, -1)
    torch.testing.assert_close(3 * mean.joint_value(observation, action), total.joint_value(observation, action))
    with pytest.raises(UserError, match="There is no decomposition 'product'"):
        FactoredCritic(5, (3, 2), decomposition="product")
