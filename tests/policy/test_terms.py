"""`terms`, of which rules are compiled, and `model`, which says what may be written, are the same words."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import BaseModel

from otel_runtime.policy import model, shapes, terms

PAIRS: list[tuple[type[BaseModel], type[terms.Written]]] = [
    (model.Test, terms.Test),
    (model.After, terms.After),
    (model.Over, terms.Over),
    (model.Conditions, terms.Conditions),
    (model.Approval, terms.Approval),
    (model.Retry, terms.Retry),
    (model.Rule, terms.Rule),
    (shapes.UrlParts, terms.UrlParts),
    (shapes.SqlTerms, terms.SqlTerms),
    (shapes.Origins, terms.Origins),
]
RULE = {
    "id": "pay",
    "tool": ["pay", "refund"],
    "decision": "require-approval",
    "args": {
        "amount": {"gt": Decimal("0.10"), "not": {"in": [1, {"ref": "args.other"}]}},
        "to": {"url": {"scheme": "https", "port": [443, 8443]}},
    },
    "unless": {"any_of": [{"user": "ann"}, {"after": {"tool": "scan"}}]},
    "over": {"sum": "args.amount", "max": 100, "by": "user", "per": "1h"},
    "approval": {"approvers": ["role:finance"], "expires": "4h"},
    "match": [{"args": {"amount": 1}}],
}


def names(kind: type[terms.Written]) -> list[str]:
    """Names with a default, base classes first."""
    return [name for base in reversed(kind.__mro__) for name in vars(base).get("__annotations__", ())]


class TestNames:
    """A key that one of them lacks would be checked and never decide, or the other way round."""

    @pytest.mark.parametrize(("written", "compiled"), PAIRS, ids=lambda kind: f"{kind.__module__.rpartition('.')[2]}-{kind.__name__}")
    def test_are_the_same_in_the_same_order(self, written: type[BaseModel], compiled: type[terms.Written]) -> None:
        """Every key of a model is a term; labels of explanations follow its order."""
        assert list(written.model_fields) == names(compiled)

    @pytest.mark.parametrize(("written", "compiled"), PAIRS, ids=lambda kind: f"{kind.__module__.rpartition('.')[2]}-{kind.__name__}")
    def test_what_is_left_out_means_the_same(self, written: type[BaseModel], compiled: type[terms.Written]) -> None:
        """A default of the model is the term's; lists are tuples there."""
        for name, field in written.model_fields.items():
            if field.is_required() or compiled in (terms.After, terms.Over):
                continue
            default = field.get_default(call_default_factory=True)
            assert (name, tuple(default) if isinstance(default, list) else default) == (name, getattr(compiled, name))


class TestRule:
    """One rule on its way from a file to its conditions."""

    RULE = model.rule_terms(model.Rule.model_validate(RULE))

    def test_keeps_what_was_written_and_nothing_else(self) -> None:
        """Only the keys of the file, in the order of the model, as plain values."""
        assert ["tool", "args", "unless", "id", "decision", "over", "approval", "match"] == list(self.RULE.written)
        assert self.RULE.patterns == ("pay", "refund")
        assert self.RULE.args is not None
        amount = self.RULE.args["amount"]
        assert (Decimal("0.10"), terms.Test(in_=(1, terms.Ref("args", "other")))) == (amount.gt, amount.not_)
        assert (None, 3600.0 * 4, 1) == (
            amount.lt,
            self.RULE.approval and self.RULE.approval.expires,
            self.RULE.approval and self.RULE.approval.quorum,
        )

    def test_is_spelled_as_in_the_file(self) -> None:
        """`plain` gives back keys and lists."""
        spelled = terms.plain(self.RULE, {"args", "unless"})
        assert {"args", "unless"} == set(spelled)
        assert {"any_of": [{"user": ["ann"]}, {"after": {"tool": ["scan"]}}]} == spelled["unless"]
        assert {"gt": Decimal("0.10"), "not": {"in": [1, terms.Ref("args", "other")]}} == terms.plain(self.RULE)["args"]["amount"]  # type: ignore[index]  # a mapping
        assert str(terms.UrlParts(scheme=("https",), port=(443, 8443))) == "{scheme: https, port: [443, 8443]}"

    def test_does_not_change(self) -> None:
        """Setting a name is refused, and equal rules are equal."""
        with pytest.raises(AttributeError, match="immutable"):
            self.RULE.id = "other"
        again = model.rule_terms(model.Rule.model_validate(RULE))
        assert (again, hash(again)) == (self.RULE, hash(self.RULE))
        assert again != model.rule_terms(model.Rule.model_validate({**RULE, "id": "other"}))
