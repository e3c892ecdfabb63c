"""PDFs made by hand, byte by byte, so that no writer of PDFs is needed."""

import pytest
from pypdf import PdfReader, PdfWriter
from pypdf.errors import DependencyError

from tunewise.errors import DataError
from tunewise.retrieval.documents import read_documents
from tunewise.retrieval.pdf import pdf_to_markdown


def pdf(*pages: str) -> bytes:
    """A PDF with one line of Helvetica on each page; an empty text leaves the page blank."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n, text in enumerate(pages):
        drawn = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET" if text else ""
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * n} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
    body, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n".encode()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\n"
    return body + f"{end}startxref\n{len(body)}\n%%EOF\n".encode()


def test_each_page_with_text_stands_under_its_number(tmp_path):
    file = tmp_path / "manual.pdf"
    file.write_bytes(pdf("Leave is thirty days.", "", "Travel is by train."))
    assert pdf_to_markdown(file) == "# page 1\n\nLeave is thirty days.\n\n# page 3\n\nTravel is by train.\n"
    (document,) = read_documents(tmp_path).documents
    assert (document.id, document.kind) == ("manual.pdf", "markdown")


def test_a_scanned_a_damaged_and_a_locked_pdf_are_refused_with_what_to_do(tmp_path):
    scanned, damaged, locked = (tmp_path / f"{name}.pdf" for name in ("scanned", "damaged", "locked"))
    scanned.write_bytes(pdf("", ""))
    with pytest.raises(DataError, match=r"2 pages without any text.*OCR"):
        pdf_to_markdown(scanned)
    damaged.write_bytes(b"%PDF-1.7 and then nothing of the kind")
    with pytest.raises(DataError, match="cannot be read as a PDF"):
        pdf_to_markdown(damaged)
    open_one = tmp_path / "open.pdf"
    open_one.write_bytes(pdf("A secret."))
    writer = PdfWriter(clone_from=PdfReader(open_one))
    writer.encrypt("key", algorithm="RC4-128")
    writer.write(locked)
    with pytest.raises(DataError, match="locked with a password"):
        pdf_to_markdown(locked)


@pytest.mark.parametrize(
    "error", [DependencyError("cryptography>=3.1 is required"), NotImplementedError("DRM")]
)
def test_a_pdf_in_a_cipher_that_cannot_be_read_here_is_refused(tmp_path, monkeypatch, error):
    def refuse(file):
        raise error

    monkeypatch.setattr("pypdf.PdfReader", refuse)
    with pytest.raises(DataError, match="this PDF is encrypted or compressed"):
        pdf_to_markdown(tmp_path / "a.pdf")
