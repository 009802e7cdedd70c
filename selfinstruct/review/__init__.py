"""The quality review of Table 2: what a person is asked, the form and the spreadsheet, and a model as a further rater."""
