"""Evaluation that training does not wait for: an actor plays episodes while the learners train ahead."""

from spin_rl.algorithms.rllib.evaluator import Evaluator, Place
from spin_rl.algorithms.rllib.learners import Learners


class OverlappedEvaluation:
    """Evaluates snapshots in an actor that it keeps from one evaluation, and one trial, to the next."""

    def __init__(self) -> None:
        self.evaluator: Evaluator | None = None

    def evaluate(self, learners: Learners, updates: int, most: float) -> tuple[list[dict[str, float]], float]:
        """Evaluate the policy as it stands.

        Args:
            learners: what trains it; they train ahead meanwhile (``spin_rl.algorithms.rllib.ahead``).
            updates: how many updates they make at a time.
            most: at most so many updates are made ahead.

        Returns:
            The result of every seed, and the seconds for which the learners trained.

        Raises:
            RuntimeError: the evaluation failed.
        """
        seconds = 0.0
        evaluator = self._evaluator_at(learners.first(lambda _: Place.here()))
        try:
            evaluator.start(*learners.first(lambda learner: (learner.snapshots(), learner.evaluation_request())))
            ahead = learners.first(lambda learner: learner.updates_ahead())
            while ahead < most and not evaluator.done():
                ahead, spent = learners.each(lambda learner: learner.train_ahead(updates))[0]
                seconds += spent
            return evaluator.results(), seconds
        except BaseException:
            self.close()
            raise

    def _evaluator_at(self, place: Place) -> Evaluator:
        if self.evaluator is None or self.evaluator.place != place:
            self.close()
            self.evaluator = Evaluator(place)
        return self.evaluator

    def close(self) -> None:
        """End the actor, if there is one."""
        evaluator, self.evaluator = self.evaluator, None
        if evaluator:
            evaluator.close()
