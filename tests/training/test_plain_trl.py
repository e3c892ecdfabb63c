"""Twenty steps of ours and of a plain TRL script on the same batches end with the same losses and weights."""

import pytest

from tunewise.progress import Silent
from tunewise.training.recipe import Recipe, quiet, train

STEPS = 20
RECIPES = {
    "lora": Recipe(
        learning_rate=2e-3, epochs=4.0, weight_decay=0.01, max_grad_norm=1.0, rank=4, batch_size=8, seed=3,
        precision="fp32", method="lora", schedule="cosine",
    ),
    "full": Recipe(
        learning_rate=1e-3, epochs=4.0, weight_decay=0.01, max_grad_norm=1.0, rank=4, batch_size=8, seed=3,
        precision="fp32", method="full", schedule="cosine",
    ),
}  # fmt: skip


def plain_script(tiny, rows, method, folder):
    """What a user of TRL would write. Returns the losses and the trained model."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    losses = []

    class Losses(TrainerCallback):
        def on_log(self, args, state, control, logs, **rest):
            if "loss" in logs:
                losses.append(logs["loss"])

    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    torch.manual_seed(3)
    if method == "lora":
        config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, config)
    data = Dataset.from_dict(
        {
            "input_ids": [list(row.ids) for row in rows],
            "completion_mask": [[0] * len(row.prompt) + [1] * len(row.answer) for row in rows],
        }
    )
    args = SFTConfig(
        output_dir=str(folder), per_device_train_batch_size=8, num_train_epochs=4, seed=3, data_seed=3,
        completion_only_loss=True, learning_rate=RECIPES[method].learning_rate, weight_decay=0.01,
        max_grad_norm=1.0, warmup_steps=1,
        lr_scheduler_type="cosine", bf16=False, use_cpu=True, gradient_checkpointing=False, logging_steps=1,
        save_strategy="no", report_to="none", disable_tqdm=True, max_length=None,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model, args=args, train_dataset=data, callbacks=[Losses()],
        processing_class=AutoTokenizer.from_pretrained(tiny),
    )  # fmt: skip
    trainer.train()
    return losses, trainer.model


@pytest.mark.parametrize("method", RECIPES)
def test_losses_and_weights_of_twenty_steps_are_those_of_a_plain_trl_script(
    method, tiny, rows, tmp_path, capfd
):
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    assert len(rows) == 40
    run = train(tiny, rows, (), RECIPES[method], tmp_path / "ours", Silent())
    with quiet():
        losses, model = plain_script(tiny, rows, method, tmp_path / "theirs")
    assert len(losses) == len(run.facts["losses"]) == STEPS
    assert run.facts["losses"] == pytest.approx(losses, abs=2e-4)
    folder = run.snapshots[-1].folder
    if method == "lora":
        ours, theirs = load_file(folder / "adapter_model.safetensors"), get_peft_model_state_dict(model)
    else:
        ours, theirs = load_file(folder / "model.safetensors"), model.state_dict()
        theirs = {name: tensor for name, tensor in theirs.items() if name in ours}
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        # Adam divides by the gradient's size, so rounding in a tiny gradient moves a weight by up to one step
        torch.testing.assert_close(tensor, theirs[name].cpu(), atol=1e-3, rtol=1e-2)
        moved = (tensor - theirs[name].cpu()).abs().mean()
        assert float(moved) < 2e-5, name
