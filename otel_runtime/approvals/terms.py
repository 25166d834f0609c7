"""Whose answer counts for what. Pure.

An identity is what a surface established, such as `os:alice`; the setting `people` and the rules use the plain name, `alice`.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping

from otel_runtime.values.approval import Vote
from otel_runtime.values.decision import ApprovalTerms, Requirement

__all__ = ["entitled_rules", "missing_votes", "plain_name", "requirement_digest", "same_person"]

People = Mapping[str, frozenset[str]]


def requirement_digest(terms: ApprovalTerms) -> str:
    """Hex SHA-256 of what must be satisfied; reasons, order and repetition do not matter.

    Args:
        terms: The terms of all matching approval rules.
    """
    asked = {(req.rule, tuple(sorted(set(req.approvers))), req.quorum) for req in terms.requirements}
    text = json.dumps(
        ["otel-runtime/requirement/1", sorted(asked), float(terms.expires_s), _seconds(terms.use_within_s), sorted(terms.edit)]
    )
    return hashlib.sha256(text.encode()).hexdigest()


def plain_name(identity: str) -> str:
    """`alice` for `os:alice`; a name without a surface stays as it is."""
    _, colon, name = identity.partition(":")
    return name if colon else identity


def same_person(identity: str, other: str) -> bool:
    """True when two identities may be one person; spellings that differ in case or form only count as one."""
    return _folded(plain_name(identity)) == _folded(plain_name(other))


def entitled_rules(terms: ApprovalTerms, approver: str, requester: str | None, people: People) -> tuple[str, ...]:
    """The rules whose requirement this person's vote counts for.

    Args:
        terms: The terms of the request.
        approver: Identity of the person.
        requester: The acting user of the call; None when unknown.
        people: Role names by plain name.
    """
    return tuple(req.rule for req in terms.requirements if _entitled(req, approver, requester, people))


def missing_votes(terms: ApprovalTerms, votes: Iterable[Vote], requester: str | None, people: People) -> dict[str, int]:
    """How many more approvals each rule needs; empty when every requirement is met.

    A vote counts when the person was entitled at the time and still is.
    """
    approvals = [vote for vote in votes if vote.approved]
    missing: dict[str, int] = {}
    for req in terms.requirements:
        voters = {
            _folded(plain_name(vote.approver))
            for vote in approvals
            if req.rule in vote.rules and _entitled(req, vote.approver, requester, people)
        }
        if len(voters) < req.quorum:
            # Engines side by side may ask under one name: the larger number is what is still to come.
            missing[req.rule] = max(missing.get(req.rule, 0), req.quorum - len(voters))
    return missing


def _entitled(req: Requirement, approver: str, requester: str | None, people: People) -> bool:
    name = plain_name(approver)
    if not name:
        return False
    if requester is not None and same_person(approver, requester):
        # Confirming one's own call is another thing than four eyes. Exact here: a look-alike is nobody's acting user.
        return "acting-user" in req.approvers and name == plain_name(requester)
    roles = people.get(name, frozenset())
    return any(_fits(entry, name, roles) for entry in req.approvers)


def _fits(entry: str, name: str, roles: frozenset[str]) -> bool:
    kind, _, wanted = entry.partition(":")
    if kind == "role":
        return wanted in roles
    return entry == "anyone" or (kind == "user" and wanted == name)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _seconds(value: float | None) -> float | None:
    return None if value is None else float(value)
