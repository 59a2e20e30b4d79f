"""Operations with a beginning and an end: preflight, image build."""
