"""Fine-tuning on the generated data, and judging what came of it: notebooks 06, 07 and 16 (paper sections 2.3 and 4)."""

from .comparison import compare_table_3, draw_differences, say_difference, tabulate_columns, tabulate_differences
from .curve import compare_points, plan_curve
from .evaluate import open_evaluation
from .jobs import plan_job
from .local import LocalTraining, check_training, find_rows, load_heldout_pairs, plan_training
from .lora import Settings, train_adapter
from .loss import CompletionLoss, measure_completion_loss
from .provider import ProviderTraining, plan_provider
from .rows import COLUMNS, TRAINED, load_pairs, mark_tokens, plan_batches, tokenise_rows, write_training_files
from .scaling import find_points, open_judging, open_scaling, open_trainings
from .weights import check_adapter, convert_to_f16, describe_base, find_base, load_adapter, load_model, load_tokenizer
