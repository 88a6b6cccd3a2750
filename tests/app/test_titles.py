"""Titles: what says nothing gives way to the file's name."""

import pytest

from app.titles import title_of


@pytest.mark.parametrize(
    "own",
    [
        "",
        " \x00\x01",
        "untitled",
        "Untitled Document (2)",
        "Microsoft Word - Document1.docx",
        "Microsoft Word - Annual report",
        "Microsoft PowerPoint - talk",
        "PowerPoint Presentation",
        "Presentation1",
        "0000320187-19-000051",
        "9f86d081884c7d659a2feaa0c55ad015",
        "{550e8400-e29b-41d4-a716-446655440000}",
        "feff004800610072",
        "C:\\Users\\ada\\report.doc",
        "/tmp/build/main.tex",
        "file:///home/ada/a.html",
        "harbour_final_v3.indd",
        "Scan0001",
        "1234",
    ],
)
def test_the_name_of_the_file_wins(own: str) -> None:
    assert title_of(own, "Harbour report.pdf") == "Harbour report"


@pytest.mark.parametrize(
    "own",
    ["Annual Report 2019", "An Introduction to R", "卑尔根报告", "Отчёт", "The Document", "Rcpp: R and C++", "GAP"],
)
def test_a_title_stays(own: str) -> None:
    assert title_of(f" {own}\n", "a.pdf") == own
