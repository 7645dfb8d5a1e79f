"""Tests of one host, on several: the promise holds where the daemon is an operator on a host of its own."""

from tests.cluster.test_lend import (
    test_a_borrower_runs_under_its_own_user_on_a_node_that_stays_the_owners,
    test_an_interactive_job_of_the_owner_and_a_completing_one_keep_the_node,
)
from tests.cluster.test_reclaim import (
    test_a_borrower_that_ignores_sigterm_is_gone_within_killwait,
    test_the_decision_is_recorded_before_any_signal,
    test_the_owner_gets_one_node_and_one_borrower_goes,
    test_with_the_daemon_dead_slurm_itself_gives_the_node_back,
)
from tests.cluster.test_reserve import (
    test_a_request_ends_with_the_declared_nodes_bound_and_recorded_first,
    test_an_ordinary_job_never_starts_on_a_reserved_node,
)
