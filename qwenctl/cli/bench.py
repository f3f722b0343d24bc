"""`qwenctl bench`: how fast a model reads prompts and writes answers, alone and with several at once."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from qwenctl.cli import run_options as options
from qwenctl.cli.options import ContextUrl, Json, Model
from qwenctl.cli.output import Printer, reason_of, table, write_line
from qwenctl.errors import AccessDenied, FileMissing, Interrupted, QwenctlError, UsageError
from qwenctl.flows.bench import CaseResult, Figure, Sample

if TYPE_CHECKING:
    from qwenctl.cli.bench_measure import Meter, Plan
    from qwenctl.cli.chart import Chart
    from qwenctl.runner.messages import LoadedStatus

_HEADERS: Final = ("REQUESTS", "PROMPT", "PROMPT TOK/S", "TOK/S", "EACH TOK/S", "FIRST P50", "FIRST P95")
_SIDE_LIMIT: Final = 256


class BenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `bench --json`, of a failure too as far as it came: the samples and what they add up to."""

    model: str
    id: str
    slots: int
    context_length: int
    generate_tokens: int
    results: list[CaseResult]
    samples: list[Sample]


def bench(
    model: Model,
    concurrency: Annotated[
        str, typer.Option("--concurrency", metavar="N,…", help="Requests at once.")
    ] = "1,4,8",
    prompt_tokens: Annotated[
        str, typer.Option("--prompt-tokens", metavar="N,…", help="Lengths of prompts, about.")
    ] = "128,512",
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Ask this, each time behind other words.")
    ] = None,
    generate_tokens: Annotated[
        int, typer.Option("--generate-tokens", min=2, help="Length of each answer.")
    ] = 64,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=10_000, help="Rounds of each case.")] = 3,
    duration: Annotated[
        str | None, typer.Option("--duration", metavar="TIME", help="Rounds for so long instead: 30s.")
    ] = None,
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="Longest round.")] = "5m",
    context: options.Context = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Draw a chart into it.")] = None,
    context_url: ContextUrl = None,
    json: Json = False,
) -> None:
    """Measure a model: speed of prompts and answers, time to the first token, by requests at once.

    Prompts have nothing in common, so none comes from the cache; tokens are counted by the engine. A model
    with fewer slots than requests is loaded anew with more, if it is idle. Ctrl-C keeps what was measured.

    Example: qwenctl bench qwen2.5 --concurrency 1,4 --svg speed.svg
    """
    from qwenctl.cli.bench_measure import Plan
    from qwenctl.flows.bench import Case, parse_counts
    from qwenctl.units import parse_duration

    if svg is not None and not svg.absolute().parent.is_dir():  # told before minutes are spent
        raise FileMissing(f"the directory of `{svg}` does not exist")
    sides = parse_counts(concurrency, "--concurrency")
    if sides[-1] > _SIDE_LIMIT:
        raise UsageError(f"`--concurrency` cannot be {sides[-1]}", hint=f"it is {_SIDE_LIMIT} at the most")
    lengths = parse_counts(prompt_tokens, "--prompt-tokens")
    if prompt is not None:
        lengths = (len(prompt.encode()) // 3 + 1,)  # a guess; the engine counts
    plan = Plan(
        cases=tuple(Case(side, length) for length in lengths for side in sides),
        generate_tokens=generate_tokens,
        rounds=rounds,
        duration_seconds=None if duration is None else parse_duration(duration),
        timeout_seconds=parse_duration(timeout),
    )
    _bench(model, plan, prompt, context, svg, Printer("bench", json), context_url)


def _bench(
    name: str,
    plan: "Plan",
    prompt: str | None,
    context_tokens: int | None,
    svg: Path | None,
    printer: Printer,
    context_url: str | None,
) -> None:
    """Model, where it is kept → loaded with room → rounds → report."""
    from qwenctl.cli.bench_measure import Meter, load_for
    from qwenctl.cli.load_wait import told_while_loading
    from qwenctl.cli.model_place import place_of
    from qwenctl.cli.wiring import load_settings
    from qwenctl.flows.bench import Prompts
    from qwenctl.runner.messages import LoadOptions

    place = place_of(load_settings(), printer, context_url)
    stored = place.find(name)
    runner = place.open_runner()
    with told_while_loading(stored.name, runner):
        status = load_for(runner, stored.name, plan, LoadOptions(context_length=context_tokens))
    for note in status.model.notes if status.model else ():
        printer.note(note)
    if status.model is not None and status.model.purpose != "text":
        raise UsageError(f"`{stored.name}` generates nothing", hint="only models that answer are measured")
    seed = int.from_bytes(os.urandom(8), "big")  # a run must not find the prompts of the one before
    meter = Meter(runner, status, Prompts(seed, prompt), plan)
    samples: list[Sample] = []
    failure: QwenctlError | None = None
    try:
        for sample in _measured(meter, plan, printer):
            samples.append(sample)
    except KeyboardInterrupt:
        failure = Interrupted("interrupted")
    except QwenctlError as error:
        failure = error
    report = _report(status, plan, samples)
    if failure is None:
        printer.result(report, _text(report))
    elif samples and not printer.as_json:
        write_line(_text(report))
    if svg is not None and samples:
        _write_svg(svg, report)
        printer.note(f"drawn into {svg}")
    if failure is not None:
        failure.report = report if samples else None
        raise failure


def _measured(meter: "Meter", plan: "Plan", printer: Printer) -> Iterator[Sample]:
    """The samples of all cases, with the progress on stderr."""
    with _telling(printer) as tell:
        tell("warming up")
        meter.warm_up()
        for number, case in enumerate(plan.cases, 1):
            about = f"{case.concurrency} at once, {case.prompt_tokens} tokens"
            tell(f"{number}/{len(plan.cases)}: {about}")
            for turn, samples in enumerate(meter.measure(case), 1):
                yield from samples
                tell(f"{number}/{len(plan.cases)}: {about}, round {turn}")


@contextmanager
def _telling(printer: Printer) -> Iterator[Callable[[str], None]]:
    """How progress is shown: one line that changes on a terminal, else a line for each case."""
    terminal = sys.stderr.isatty()

    def tell(text: str) -> None:
        if terminal:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        elif ", round" not in text:
            printer.note(text)

    try:
        yield tell
    finally:
        if terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _report(status: "LoadedStatus", plan: "Plan", samples: list[Sample]) -> BenchReport:
    from qwenctl.flows.bench import results_of

    return BenchReport(
        model=status.name,
        id=status.id,
        slots=status.model.slots if status.model else 0,
        context_length=status.model.context_length if status.model else 0,
        generate_tokens=plan.generate_tokens,
        results=results_of(samples),
        samples=samples,
    )


def _text(report: BenchReport) -> str:
    """The table, and the chart of the answers' speed below it."""
    from qwenctl.cli.chart import draw

    head = (
        f"{report.model}: {report.slots} slots of {report.context_length} tokens, "
        f"answers of {report.generate_tokens} tokens; median (lowest to highest)"
    )
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    width = shutil.get_terminal_size().columns
    charts = [draw(chart, width, ascii_only=encoding != "utf8") for chart in _charts(report.results)]
    return "\n\n".join([head, table(_HEADERS, map(_row, report.results)), *charts])


def _row(result: CaseResult) -> tuple[str, ...]:
    from qwenctl.cli.chart import rounded

    return (
        str(result.concurrency),
        str(result.prompt_tokens),
        _spread(result.prompt_per_second),
        _spread(result.generated_per_second),
        rounded(result.each_per_second),
        f"{result.first_token_p50_seconds * 1000:.0f} ms",
        f"{result.first_token_p95_seconds * 1000:.0f} ms",
    )


def _spread(figure: Figure) -> str:
    from qwenctl.cli.chart import Bar

    return Bar("", figure.median, figure.low, figure.high).spread


def _charts(results: Sequence[CaseResult]) -> "list[Chart]":
    from qwenctl.cli.chart import Bar, Chart

    def bars(figures: Sequence[Figure]) -> list[Bar]:
        labels = [f"{r.concurrency} at once, {r.prompt_tokens} tokens" for r in results]
        return [Bar(label, f.median, f.low, f.high) for label, f in zip(labels, figures, strict=True)]

    return [
        Chart(
            "generated tokens per second, all requests together",
            bars([r.generated_per_second for r in results]),
        ),
        Chart(
            "prompt tokens per second, all requests together", bars([r.prompt_per_second for r in results])
        ),
    ]


def _write_svg(path: Path, report: BenchReport) -> None:
    """Raises: AccessDenied."""
    from qwenctl.cli.chart import render_svg

    try:
        path.write_text(
            render_svg(f"qwenctl bench {report.model}", _charts(report.results)), encoding="utf-8"
        )
    except OSError as error:
        raise AccessDenied(f"`{path}` cannot be written: {reason_of(error)}") from error
