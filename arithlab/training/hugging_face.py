"""Models from elsewhere: a causal language model of the transformers package as an Answerer."""

from typing import TYPE_CHECKING

import torch

from ..arithmetic.digits import MAX_DIGITS
from ..errors import ArithlabError, PackageMissing, shorten
from .answer import Answerer

if TYPE_CHECKING:
    from pathlib import Path

TOGETHER = 64  # questions answered in one pass


def hugging_face(
    folder: "str | Path", *, prompt: str = "{question}=", digits: int = 12, reversed_answer: bool = False
) -> Answerer:
    """An Answerer made of a causal language model and its tokenizer in a local folder; nothing is downloaded.

    prompt: how a question is put, with {question} in it. digits: the most tokens that an answer may have.
    reversed_answer: the model writes units first. The answer is what the model writes greedily up to the first
    character that is no digit or letter, spaces in front left out; nothing at all is the empty string, which is wrong.

        ask = hugging_face("models/my-adder")
        al.length_map(ask, range(1, 7), on="add")

    Raises PackageMissing without transformers, ArithlabError for a prompt without {question} or for a folder in
    which there is no model.
    """
    if not isinstance(prompt, str) or "{question}" not in prompt:
        raise ArithlabError(f"prompt {shorten(prompt)}: {{question}} must stand in it, as in 'Q: {{question}} A:'.")
    if type(digits) is not int or not 1 <= digits <= MAX_DIGITS:
        raise ArithlabError(f"digits {shorten(digits)}: allowed are whole numbers from 1 to {MAX_DIGITS:,}.")
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ModuleNotFoundError as error:
        raise PackageMissing(error.name, "hf") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
    except (OSError, ValueError) as error:
        raise ArithlabError(
            f"no causal language model and tokenizer in {shorten(str(folder))}: give a folder with config.json, "
            "model.safetensors and tokenizer.json, as save_pretrained writes it."
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)

    def ask(questions: list[str]) -> list[str]:
        answers = []
        for start in range(0, len(questions), TOGETHER):
            prompts = [prompt.replace("{question}", question) for question in questions[start : start + TOGETHER]]
            given = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
            with torch.inference_mode():
                ids = model.generate(
                    **given, max_new_tokens=digits, do_sample=False, num_beams=1, pad_token_id=tokenizer.pad_token_id
                )
            written = tokenizer.batch_decode(ids[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
            answers += [_number(text, reversed_answer) for text in written]
        return answers

    return ask


def _number(text: str, reversed_answer: bool) -> str:
    """The number that a text begins with.

    >>> _number(" 1054; 3", False), _number("4501\\n", True), _number("-7", False)
    ('1054', '1054', '')
    """
    text = text.lstrip()
    end = next((i for i, sign in enumerate(text) if not sign.isalnum()), len(text))
    return text[:end][::-1] if reversed_answer else text[:end]
