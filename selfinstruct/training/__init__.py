"""Fine-tuning on the generated data: notebook 06 (paper sections 2.3 and 4.1)."""

from .jobs import plan_job
from .local import LocalTraining, check_training, find_rows, plan_training
from .lora import Settings, train_adapter
from .loss import CompletionLoss, measure_completion_loss
from .provider import ProviderTraining, plan_provider
from .rows import COLUMNS, TRAINED, load_pairs, mark_tokens, plan_batches, tokenise_rows, write_training_files
from .weights import check_adapter, convert_to_f16, describe_base, find_base, load_adapter, load_model, load_tokenizer
