"""The words of a PDF, page by page."""

from pathlib import Path

from tunewise.errors import DataError


def pdf_to_markdown(file: Path) -> str:
    """The text of a PDF with "# page N" above each page that has any, so that chunks name their page.

    Raises DataError for a file that is damaged or locked with a password, and for one that holds no
    text at all (scanned pages: only images).
    """
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError, PyPdfError

    try:
        reader = PdfReader(file)
        texts = [page.extract_text() for page in reader.pages]
    except FileNotDecryptedError as error:
        raise DataError(f"{file}: this PDF is locked with a password; save it without one") from error
    except (DependencyError, NotImplementedError) as error:  # a cipher, a lock or a filter
        raise DataError(
            f"{file}: this PDF is encrypted or compressed in a way that cannot be read here ({error}); save "
            "it anew without that"
        ) from error
    except (PyPdfError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        # pypdf meets damage wherever it lies; each of these means that the file is not a sound PDF
        raise DataError(f"{file}: cannot be read as a PDF ({error}); save it anew or as text") from error
    pages = [f"# page {number}\n\n{text.strip()}" for number, text in enumerate(texts, 1) if text.strip()]
    if not pages:
        raise DataError(
            f"{file}: {len(texts)} pages without any text, as scanned pages are; run OCR over it, or take it"
            " out"
        )
    return "\n\n".join(pages) + "\n"
