"""Every sentence of the design's page on events, and the test that holds it; a test that is renamed or removed is missed here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNS, HARD, SAFE = (
    "telemetry_projector/test_projector_runs.py",
    "telemetry_projector/test_projector_hard_cases.py",
    "telemetry_projector/test_projector_safety.py",
)
SIGNALS, ORACLE, ASKING = (
    "telemetry_projector/test_event_signals.py",
    "telemetry_projector/test_projector_oracle.py",
    "sources/test_asking.py",
)
A3S, DREADNODE, VITEHUB = "sources/test_a3s_source.py", "sources/test_dreadnode_source.py", "sources/test_vitehub_source.py"
BUS, LIVE, EXPORT = "hooks/test_bus.py", "sources/test_dreadnode_live.py", "integrations/test_vitehub_export.py"

SENTENCES = [
    # Shapes
    ("wait_until drains all, then reports the first failure", "hooks/test_background.py", "test_"),
    ("lifecycle hooks are ordered and isolated", "hooks/test_lifecycle.py", "test_"),
    ("a result without its call is refused", VITEHUB, "test_"),
    ("publish of a reserved kind is an error; look-alikes too", BUS, "test_"),
    ("a slow subscriber loses events, counted, and is told", BUS, "test_a_slow_one_loses_events_and_is_told"),
    ("replay with after_seq, also to asynchronous handlers", BUS, "test_an_asynchronous_handler_gets_them_in_order"),
    ("ordering per session", BUS, "test_several_publishers_keep_the_order_of_numbers"),
    # How each becomes telemetry
    ("explicit parent, open turn, run, root flagged orphan", HARD, "test_an_event_of_a_session_stands_on_its_open_turn"),
    ("every signal carries source and type", HARD, "test_carries_where_it_came_from"),
    ("run id and step id: the first of", HARD, "test_which_id_is_meant"),
    ("names ending .cancelled .error .failed fail a step", RUNS, "test_how_a_name_ends_a_step"),
    ("names that leave it running", RUNS, "test_names_that_leave_a_step_running"),
    ("valid hex is used as it is, others are hashed", RUNS, "test_foreign_trace_ids_are_hashed"),
    ("sampled: false records nothing", RUNS, "test_unsampled_records_nothing"),
    ("1,024 events per run", RUNS, "test_many_events"),
    ("step completed 25 ms, run open", RUNS, "test_a_step_ends_while_its_run_stays_open"),
    ("the table of terminal events", RUNS, "test_what_a_failure_does_to_the_run"),
    ("the same under the names ViteHub gives", RUNS, "test_the_end_of_a_run"),
    ("two run ids in one trace", RUNS, "test_two_runs_of_one_trace"),
    ("open steps take the run's end", RUNS, "test_open_steps_take_the_runs_end"),
    ("2,000 events with the terminal in the middle", EXPORT, "test_two_thousand_events"),
    ("secrets under keys never leave", SAFE, "test_content_and_secrets_stay"),
    ("no getter of a payload is called", SAFE, "test_no_getter_is_called"),
    # Dreadnode
    ("turn.accepted: queue time as attribute", HARD, "test_a_turn_queued_behind_a_running_one"),
    ("children still open are closed with the turn", HARD, "test_a_tool_whose_sibling_failed_is_closed_as_failed"),
    (
        "prompt.required is answered through calls of that system",
        "integrations/test_dreadnode_bridge.py",
        "test_our_policy_answers_their_prompts",
    ),
    ("deletion closes every span of the session", HARD, "test_a_session_closed_in_the_middle_of_a_turn"),
    ("session.warning log record WARN", SIGNALS, "test_a_warning_is_a_record_in_the_trace_of_its_turn"),
    ("component.state_changed log and gauge", SIGNALS, "test_component_states"),
    ("turn.event dispatches on event_type", DREADNODE, "test_"),
    ("transport.heartbeat feeds the idle reaper", HARD, "test_a_heartbeat_keeps_a_session_alive"),
    ("high-volume kinds are aggregated", SIGNALS, "test_events_are_counted_by_kind"),
    ("a dropped queued turn goes accepted -> cancelled", HARD, "test_ended_before_it_started"),
    ("the model span does not swallow tool time", RUNS, "test_a_model_span_does_not_swallow_tool_time"),
    ("usage comes twice: count once", HARD, "test_usage_twice"),
    ("their tracing loses a span and leaves failed roots UNSET: ours does neither", LIVE, "test_agents"),
    # a3s
    ("38 variants, both spellings", A3S, "test_"),
    ("exit_code != 0 = ERROR", HARD, "test_a_failed_exit_code"),
    ("ToolInputDelta goes to the only open tool, else ambiguous", HARD, "test_input_deltas_go_to_the_only_open_tool"),
    ("one approval however often asked; default on timeout reject", HARD, "test_a_confirmation_is_one_approval"),
    ("PermissionDenied = denied decision", ASKING, "test_a_foreign_denial_is_recorded_as_theirs"),
    ("ExternalTaskPending: lane, deadline, no Completed", HARD, "test_an_external_task_that_timed_out"),
    ("pairs = spans", HARD, "test_pairs_are_spans"),
    ("CommandRetry = retryable failure", HARD, "test_a_retry_is_a_decision"),
    ("failures of the host never fail the run", HARD, "test_failures_of_the_host_fail_no_run"),
    ("QueueAlert log by level", HARD, "test_queue_alerts_have_their_level"),
    ("progress and the like are rate-capped and counted", HARD, "test_what_comes_in_numbers_is_capped"),
    ("Error = ERROR on the innermost open unit", HARD, "test_an_error_that_an_end_follows"),
    ("the run fails only if no End follows", HARD, "test_an_error_that_no_end_follows"),
    ("End.usage is never added again", HARD, "test_turns_carry_usage_and_the_end_adds_none"),
    ("decision map, both ways", ASKING, "test_what_the_rules_say_is_answered_at_once"),
    # Hard cases
    ("interleaved parallel tools", ORACLE, "test_tools_stand_under_their_generation"),
    ("orphan end", RUNS, "test_an_end_without_a_start"),
    ("the same tool id open twice", RUNS, "test_one_id_for_two_tools_at_once"),
    ("the same tool id reused later", RUNS, "test_an_id_used_again_later"),
    ("end before start within a window", HARD, "test_an_end_that_comes_before_its_start"),
    ("duplicates and replays", RUNS, "test_duplicates"),
    ("a million deltas in constant memory", HARD, "test_deltas_take_no_memory"),
    ("confirmation timeout racing an answer", HARD, "test_a_timeout_racing_an_answer"),
    ("approval given for other arguments", ASKING, "test_other_arguments_are_another_question"),
    ("sub-agent events before their start", HARD, "test_events_of_a_sub_agent_before_its_start"),
    ("a sub-agent's own start before it is announced", HARD, "test_the_start_of_a_sub_agent_before_it_is_announced"),
    ("grandchildren", HARD, "test_sub_agents_and_grandchildren"),
    ("a cycle of parents", HARD, "test_a_cycle_of_parents"),
    ("rubbish is never an exception into the agent", "sources/test_source_contract.py", "test_"),
    ("clock skew, naive timestamps, end before start", HARD, "test_naive_times_and_skew"),
    ("spoofed reserved attributes", SAFE, "test_our_names_cannot_be_spoofed"),
    ("forged reserved kinds", "sources/test_source_contract.py", "test_what_a_source_says_nobody_else_can_say"),
    ("secrets everywhere", SAFE, "test_secrets_in_free_text_are_masked"),
    ("subscriber lag reported and open spans flagged", HARD, "test_lost_events_are_said"),
    ("any shuffle, duplication or truncation", ORACLE, "test_any_shuffle_duplication_or_truncation"),
]


@pytest.mark.parametrize(("sentence", "file", "test"), SENTENCES, ids=[row[0] for row in SENTENCES])
def test_every_sentence_has_its_test(sentence: str, file: str, test: str) -> None:
    """The named test is in the named file; where a whole file holds a sentence, it has tests at all."""
    found = re.findall(r"def (test_\w+)\(", (ROOT / file).read_text(encoding="utf-8"))
    assert [each for each in found if test in (each, "test_")], f"nothing holds: {sentence}"
