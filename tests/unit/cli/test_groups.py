"""Options declared in groups are the options of the command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from jts_storage.cli.groups import grouped


@dataclass(frozen=True, kw_only=True)
class Shape:
    width: Annotated[int, typer.Option(help="In metres.")] = 1
    tags: Annotated[list[str] | None, typer.Option("--tag")] = None


def test_the_fields_of_a_group_are_options_where_it_stands() -> None:
    app = typer.Typer()

    @app.command()
    @grouped
    def draw(*, name: str, shape: Shape, again: bool = False) -> None:
        typer.echo(f"{name} {shape.width} {shape.tags} {again}")

    found = [item.name for item in typer.main.get_command(app).params]
    assert found[:4] == ["name", "width", "tags", "again"]
    run = CliRunner().invoke
    assert run(app, ["box"]).output == "box 1 None False\n"
    given = ["box", "--width", "3", "--tag", "a", "--tag", "b", "--again"]
    assert run(app, given).output == "box 3 ['a', 'b'] True\n"
    assert run(app, ["box", "--width", "x"]).exit_code == 2
